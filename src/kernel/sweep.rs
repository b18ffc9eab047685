//! The register-tile loop that every kernel is: for each group, start the accumulators, add the products of its units,
//! finish. Columns are vectors, rows are broadcast, so there is no horizontal sum anywhere.
#![forbid(unsafe_code)]

use crate::kernel::fold::{self, Group, How, Steps};
use crate::kernel::rule::{Reading, Rule, Tile};
use crate::kernel::{TileArgs, TileOut};
use crate::pack::activations::LhsTile;
use crate::simd::isa::{Body, Simd, Work};
use core::marker::PhantomData;

/// Rule `Q` on codes of `B` bits in units of `P` blocks a vector, `SL` slices, `MR` rows; `R = MR·SL` lhs rows of `U` bytes
/// a unit.
#[derive(Debug)]
pub(super) struct Sweep<
    Q,
    const B: usize,
    const U: usize,
    const P: usize,
    const SL: usize,
    const MR: usize,
    const R: usize,
>(PhantomData<Q>);

impl<Q, const B: usize, const U: usize, const P: usize, const SL: usize, const MR: usize, const R: usize> Work
    for Sweep<Q, B, U, P, SL, MR, R>
{
    type Args<'a> = TileArgs<'a>;
}

impl<S, Q, const B: usize, const U: usize, const P: usize, const SL: usize, const MR: usize, const R: usize> Body<S>
    for Sweep<Q, B, U, P, SL, MR, R>
where
    S: Simd,
    Q: Rule<S, B, U, P, R> + Rule<S, B, U, P, MR>,
{
    #[inline(always)]
    fn body(simd: S, args: &mut TileArgs<'_>) {
        const { assert!(R == MR * SL) };
        let book = <Q as Rule<S, B, U, P, R>>::BOOK;
        assert!(!book || args.book.is_some(), "a row for books is called with one");
        let (lhs_bytes, origin) = (<Q as Rule<S, B, U, P, R>>::LHS, <Q as Rule<S, B, U, P, R>>::ORIGIN);
        let how = How::of(args);
        let reading = Reading::new(simd, args.ahead, args.book.filter(|_| book), origin);
        let (panels, groups) = (
            (args.panels, Steps::panels(args)),
            (args.groups, Steps::groups::<S>(args)),
        );
        let (outer, inner) = if lhs_bytes > 1 {
            (groups, panels)
        } else {
            (panels, groups)
        };
        let scale_bytes = 2 * S::LANES * args.scale.bytes();
        let mut first = Group::first(args);
        for o in 0..outer.0 {
            let mut group = first;
            for n in 0..inner.0 {
                let (p, i) = if lhs_bytes > 1 { (n, o) } else { (o, n) };
                let codes = &S::blocks(&group.record[scale_bytes..])[..args.units * 2 * P];
                let lhs = group.lhs.as_chunks::<U>().0.as_chunks::<R>().0;
                let lhs = &lhs[..args.units];
                let mut lowest = None;
                if SL == 3 && args.apart[i] {
                    let apart = group.apart(lhs.len() * R * U, R);
                    lowest = Some(lowest_sums::<S, Q, B, U, P, MR>(simd, how, apart, codes, reading));
                }
                let acc = fold::start::<S, B, SL, R>(simd, how, group, origin);
                let acc = <Q as Rule<S, B, U, P, R>>::group(simd, codes, lhs, reading, acc);
                match &mut args.out {
                    TileOut::Fold(y) => {
                        let tile = 2 * S::LANES * MR;
                        let rest = if SL == 1 { args.rest.of(i, tile * p) } else { &[] };
                        let y = &mut y[tile * p..][..tile];
                        fold::finish::<S, B, SL, MR, R>(simd, how, group, origin, acc, (lowest, rest), y);
                    }
                    TileOut::Raw(sums) | TileOut::Sums(sums) => {
                        let sums = &mut sums[2 * S::LANES * R * i..];
                        fold::store::<S, B, SL, R>(simd, how, group, origin, acc, sums);
                    }
                }
                if SL == 3 && args.apart[i] {
                    group = group.apart(lhs.len() * MR * U, MR);
                }
                group = group.next(&inner.1);
            }
            first = first.next(&outer.1);
        }
    }
}

/// The sums of the slices that lie apart.
#[inline(always)]
fn lowest_sums<S, Q, const B: usize, const U: usize, const P: usize, const MR: usize>(
    simd: S,
    how: How,
    apart: Group<'_>,
    codes: &[S::Block],
    reading: Reading<S>,
) -> Tile<S, MR>
where
    S: Simd,
    Q: Rule<S, B, U, P, MR>,
{
    let lhs = apart.lhs.as_chunks::<U>().0.as_chunks::<MR>().0;
    let acc = fold::start::<S, B, 1, MR>(simd, how, apart, Q::ORIGIN);
    let mut acc = Q::group(simd, codes, &lhs[..codes.len() / (2 * P)], reading, acc);
    fold::correct::<S, B, 1, MR>(simd, how, apart, Q::ORIGIN, &mut acc);
    acc
}

/// Makes what rule `Q` reads of a tile's slices.
#[derive(Debug)]
pub(super) struct Expand<Q, const B: usize, const U: usize, const P: usize, const R: usize>(PhantomData<Q>);

impl<Q, const B: usize, const U: usize, const P: usize, const R: usize> Work for Expand<Q, B, U, P, R> {
    type Args<'a> = LhsTile;
}

impl<S, Q, const B: usize, const U: usize, const P: usize, const R: usize> Body<S> for Expand<Q, B, U, P, R>
where
    S: Simd,
    Q: Rule<S, B, U, P, R>,
{
    #[inline(always)]
    fn body(simd: S, tile: &mut LhsTile) {
        tile.expanded.resize(Q::LHS * tile.bytes.len(), 0);
        Q::expand(simd, &tile.bytes, &mut tile.expanded);
    }
}
