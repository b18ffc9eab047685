//! Elements that round, against integers: f16 units, MixPE's rounded products over all operands, weights as f16.
#![forbid(unsafe_code)]

mod halves;

use halves::{UNITS, Unit, nearest};
use mixgemm::accel::element::dequantise::{Conversion, unpacked};
use mixgemm::accel::element::half::{Accumulator, HalfFloat};
use mixgemm::accel::element::multiply::MultiplyI8;
use mixgemm::accel::element::shift_add_half::{Adds, ShiftAddHalf};
use mixgemm::f16;

fn library(unit: Unit) -> HalfFloat {
    HalfFloat {
        flush: unit.flush,
        saturate: unit.saturate,
    }
}

/// Equal bits, or both NaN.
fn same(found: f32, expected: f64) -> bool {
    found.to_bits() == (expected as f32).to_bits() || found.is_nan() && expected.is_nan()
}

fn all_halves() -> impl Iterator<Item = f16> {
    (0..=u16::MAX).map(f16::from_bits)
}

#[test]
fn the_integers_of_this_test_round_as_another_library_does() {
    for bits in (0x3200_0000..0x6000_0000u32).step_by(251) {
        let x = f32::from_bits(bits);
        assert_eq!(nearest(f64::from(x)), f16::from_f32(x).to_f64(), "{x:e}");
    }
}

/// Every class of f32: all signs, exponents and upper fractions, with lower bits on both sides of every tie.
#[test]
fn rounding_an_f32() {
    for high in 0..=0xFFFFu32 {
        for low in [0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0xF000, 0xFFFF] {
            let x = f32::from_bits(high << 16 | low);
            // Below 2^-25 everything rounds to zero; above 2^70 everything is beyond the range.
            let exact = match x.abs() {
                magnitude if magnitude < 2f32.powi(-26) => 0f64.copysign(f64::from(x)),
                magnitude if magnitude.is_finite() && magnitude > 1e9 => f64::from(1e9f32.copysign(x)),
                _ => f64::from(x),
            };
            for unit in UNITS {
                let mut overflow = false;
                let found = library(unit).round(x, &mut overflow);
                assert!(same(found, unit.round(exact)), "{x:e} {unit:?}: {found:e}");
                assert_eq!(overflow, exact.is_finite() && exact.abs() >= 65_520.0, "{x:e}");
            }
        }
    }
}

/// Sums and products of two f16: both are exact in f64, so there is one rounding to compare with.
#[test]
fn sums_and_products_of_two_halves() {
    let others: Vec<f16> = all_halves().step_by(61).chain(all_halves().take(40)).collect();
    for (i, a) in all_halves().enumerate() {
        for &b in others.iter().skip(i % 5).step_by(5) {
            let (wide_a, wide_b) = (a.to_f64(), b.to_f64());
            let mut overflow = false;
            let sum = HalfFloat::IEEE.add(a.to_f32(), b.to_f32(), &mut overflow);
            assert!(same(sum, nearest(wide_a + wide_b)), "{a:e} + {b:e} = {sum:e}");
            let product = HalfFloat::IEEE.mul(a.to_f32(), b.to_f32(), &mut overflow);
            assert!(same(product, nearest(wide_a * wide_b)), "{a:e} x {b:e} = {product:e}");
        }
    }
}

/// `w·x` by integers: the exact product rounded once, or gated terms rounded after every step.
fn product(unit: Unit, adds: Adds, code: u8, x: f16) -> f64 {
    let x = unit.flushed(x.to_f64());
    match adds {
        _ if code == 0 => 0.0,
        Adds::Fused => unit.round(f64::from(code) * x),
        Adds::TermByTerm => {
            let terms = (0..4)
                .filter(|i| code >> i & 1 == 1)
                .map(|i| unit.round(x * f64::from(1 << i)));
            terms.reduce(|sum, term| unit.round(sum + term)).unwrap_or(0.0)
        }
    }
}

#[test]
fn rounded_products_of_all_operands() {
    let (mut differ, mut lost) = (0, 0);
    for x in all_halves() {
        for code in 0..16 {
            for unit in UNITS {
                for adds in [Adds::Fused, Adds::TermByTerm] {
                    let element = ShiftAddHalf {
                        adds,
                        accumulator: Accumulator::F32,
                        half: library(unit),
                    };
                    let mut overflow = false;
                    let found = element.product(code, x, &mut overflow);
                    let expected = product(unit, adds, code, x);
                    assert!(
                        same(found, expected),
                        "{code} x {x:e} {unit:?} {adds:?}: {found:e}, not {expected:e}"
                    );
                    let beyond = x.is_finite() && (f64::from(code) * x.to_f64()).abs() >= 65_520.0;
                    // Terms that were rounded up on the way can reach the border a little earlier.
                    assert!(
                        overflow == beyond || adds == Adds::TermByTerm && overflow,
                        "{code} x {x:e} {unit:?}"
                    );
                    lost += u64::from(beyond);
                }
            }
            let [fused, by_term] = [Adds::Fused, Adds::TermByTerm].map(|adds| product(UNITS[0], adds, code, x));
            differ += u64::from(fused != by_term && !fused.is_nan());
        }
    }
    // Neither is the other under a new name, and f16's range really is left.
    assert!(differ > 10_000 && lost > 10_000, "{differ} {lost}");
}

#[test]
fn special_operands_pass_open_gates_only() {
    for adds in [Adds::Fused, Adds::TermByTerm] {
        let element = ShiftAddHalf {
            adds,
            ..ShiftAddHalf::default()
        };
        let product = |code, x| element.product(code, x, &mut false).to_bits();
        for x in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN, f16::NEG_ZERO] {
            assert_eq!(product(0, x), 0, "a zero code gives +0 even for {x}");
            assert!((1..16).all(|code| product(code, x) == x.to_f32().to_bits()), "{x}");
        }
    }
}

#[test]
fn int8_products_of_all_operands() {
    for w in i8::MIN..=i8::MAX {
        for x in i8::MIN..=i8::MAX {
            let exact = i64::from(w) * i64::from(x);
            assert_eq!(i64::from(MultiplyI8.product(w, x)), exact);
            assert!(i16::try_from(exact).is_ok(), "a product fits 16 bits");
        }
    }
}

#[test]
fn nibbles_become_halves_through_the_fraction_of_1024() {
    assert_eq!(
        (f16::from_f32(1024.0).to_bits(), f16::from_f32(1032.0).to_bits()),
        (0x6400, 0x6408)
    );
    for code in 0..16 {
        assert_eq!(unpacked(code, 0), f32::from(code));
        assert_eq!(unpacked(code, 8), f32::from(code) - 8.0);
    }
    for code in 0..=255 {
        assert_eq!(unpacked(code, 0), f32::from(code));
        assert_eq!(unpacked(code, 128), f32::from(code) - 128.0);
    }
}

/// Weights of all three conventions for one stored zero point: only the convention that stored it gives the weight back.
#[test]
fn a_zero_point_means_what_its_convention_says() {
    let all = [Conversion::Original, Conversion::Rescaled, Conversion::Quantised];
    let (scale, zero, code) = (f16::from_f32(0.37), 6.0f32, 13u8);
    let exact = scale.to_f64() * (f64::from(code) - f64::from(zero));
    for own in all {
        let stored = own.stored(scale, zero);
        for convention in all {
            let error = (f64::from(convention.weight(code, scale, stored)) - exact).abs();
            assert_eq!(
                error < 0.003,
                convention == own,
                "stored by {own:?}, read by {convention:?}: {error}"
            );
        }
    }
}

/// The roundings of each convention, for all codes and many scales and zero points.
#[test]
fn weights_round_where_their_formula_says() {
    let mut differ = 0;
    for scale in (0x1000..0x5000).step_by(331).map(f16::from_bits) {
        let s = scale.to_f64();
        for zero in [0.0f32, 1.0, 7.0, 8.0, 15.0, 7.5, 3.140_625, -2.25] {
            let z = f64::from(f16::from_f32(zero).to_f32());
            for code in 0..16u8 {
                let q = f64::from(code);
                let weight = |convention: Conversion| {
                    let weight = convention.weight(code, scale, convention.stored(scale, zero));
                    f64::from(weight)
                };
                let original = nearest(nearest(q - z) * s);
                let rescaled = nearest(nearest(q * s) - nearest(z * s));
                assert_eq!(weight(Conversion::Original), original, "{code} {s} {z}");
                assert_eq!(weight(Conversion::Rescaled), rescaled, "{code} {s} {z}");
                if zero >= 0.0 && zero.fract() == 0.0 {
                    assert_eq!(weight(Conversion::Quantised), original, "{code} {s} {z}");
                }
                differ += usize::from(original != rescaled);
            }
        }
    }
    assert!(differ > 1000, "rounding q·s and z·s first is another number: {differ}");
}
