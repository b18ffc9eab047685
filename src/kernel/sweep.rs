//! The register-tile loop that every kernel is: for each group, start the accumulators, add the products of its units,
//! finish. Columns are vectors, rows are broadcast, so there is no horizontal sum anywhere.
#![forbid(unsafe_code)]

use crate::kernel::TileArgs;
use crate::kernel::fold::{self, Group};
use crate::kernel::rule::Rule;
use crate::pack::layout::ZeroLayout;
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
        let lanes = S::LANES;
        let zero_bytes = match args.zero {
            ZeroLayout::None => 0,
            ZeroLayout::Nibble => lanes.div_ceil(2),
            ZeroLayout::Byte => lanes,
            ZeroLayout::Word => 2 * lanes,
            ZeroLayout::Float => lanes * args.scale.bytes(),
        };
        let scale_bytes = 2 * lanes * args.scale.bytes();
        for p in 0..args.panels {
            for i in 0..args.groups {
                let group = Group::of::<MR, R>(args, p, i, zero_bytes);
                let record = p * args.panel_bytes + i * args.record_bytes;
                let codes = S::blocks(&args.records[record + scale_bytes..]);
                let codes = &codes[..args.units * 2 * P];
                let lhs = &args.lhs[i * args.lhs_bytes..][..args.units * R * U];
                let lhs = lhs.as_chunks::<U>().0.as_chunks::<R>().0;
                let acc = fold::start::<S, B, R>(simd, args, group, Q::ORIGIN);
                let acc = Q::group(simd, codes, lhs, args.ahead, acc);
                fold::finish::<S, B, SL, MR, R>(simd, args, (p, i), group, acc);
            }
        }
    }
}
