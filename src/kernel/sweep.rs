//! The register-tile loop that every kernel is: for each group, start the accumulators, add the products of its units,
//! finish. Columns are vectors, rows are broadcast, so there is no horizontal sum anywhere.
#![forbid(unsafe_code)]

use crate::kernel::fold::{self, Group, How, Steps};
use crate::kernel::rule::Rule;
use crate::kernel::{TileArgs, TileOut};
use crate::simd::isa::{Body, Simd, Work};
use core::marker::PhantomData;

/// Rule `Q` on codes of `B` bits in units of `U` k and `P` blocks a vector, `SL` slices, `MR` rows; `R = MR·SL` lhs rows.
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
    Q: Rule<S, B, U, P, R>,
{
    #[inline(always)]
    fn body(simd: S, args: &mut TileArgs<'_>) {
        const { assert!(R == MR * SL) };
        let (how, steps) = (How::of(args), Steps::of::<S>(args));
        let scale_bytes = 2 * S::LANES * args.scale.bytes();
        for p in 0..args.panels {
            let mut group = Group::first(args, p);
            for i in 0..args.groups {
                let codes = &S::blocks(&group.record[scale_bytes..])[..args.units * 2 * P];
                let lhs = group.lhs.as_chunks::<U>().0.as_chunks::<R>().0;
                let lhs = &lhs[..args.units];
                let acc = fold::start::<S, B, R>(simd, how, group, Q::ORIGIN);
                let acc = Q::group(simd, codes, lhs, args.ahead, acc);
                match &mut args.out {
                    TileOut::Fold(y) => {
                        let tile = &mut y[2 * S::LANES * MR * p..][..2 * S::LANES * MR];
                        fold::finish::<S, B, SL, MR, R>(simd, how, group, Q::ORIGIN, acc, tile);
                    }
                    TileOut::Raw(sums) | TileOut::Sums(sums) => {
                        let sums = &mut sums[2 * S::LANES * R * i..];
                        fold::store::<S, B, R>(simd, how, group, Q::ORIGIN, acc, sums);
                    }
                }
                group = group.next(&steps);
            }
        }
    }
}
