//! MixPE's processing elements against plain products, over all operands.
#![forbid(unsafe_code)]

use mixgemm::accel::element::shift_add::{ShiftAddF16, ShiftAddI8, WideF16};
use mixgemm::f16;

#[test]
fn the_element_has_no_multiplication() {
    let text = include_str!("../src/accel/element/shift_add.rs");
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    assert!(code.contains("<< i") && code.len() > 2000);
    for forbidden in ["*", "/", "mul", "Mul", "pow(", "powi", ".product()", ".product::"] {
        assert!(!code.contains(forbidden), "{forbidden} in the text of the element");
    }
}

#[test]
fn w4a8_products_of_all_operands() {
    for code in 0..16 {
        for x in i8::MIN..=i8::MAX {
            assert_eq!(
                ShiftAddI8.product(code, x),
                i32::from(code) * i32::from(x),
                "{code} x {x}"
            );
        }
    }
}

#[test]
fn w4a16_products_of_all_finite_operands() {
    let mut finite = 0;
    for x in (0..=u16::MAX).map(f16::from_bits).filter(|x| x.is_finite()) {
        finite += 1;
        let fixed = (x.to_f64() * 16_777_216.0) as i64;
        for code in 0..16u8 {
            let expected = if code == 0 { 0.0 } else { x.to_f32() * f32::from(code) };
            assert_eq!(
                ShiftAddF16.product(code, x).to_bits(),
                expected.to_bits(),
                "{code} x {x:e}"
            );
            assert_eq!(
                ShiftAddF16.product_fixed(code, x),
                i64::from(code) * fixed,
                "{code} x {x:e}"
            );
        }
        for i in 0..4 {
            let (shifted, factor) = (WideF16::shifted(x, i), 1i64 << i);
            assert_eq!(
                shifted.to_f32().to_bits(),
                (x.to_f32() * factor as f32).to_bits(),
                "{x:e} by {i}"
            );
            assert_eq!(shifted.fixed(), Some(fixed * factor), "{x:e} by {i}");
        }
    }
    assert_eq!(finite, 63_488);
}

#[test]
fn special_operands_pass_open_gates_only() {
    for x in (0..=u16::MAX).map(f16::from_bits).filter(|x| !x.is_finite()) {
        assert_eq!(
            ShiftAddF16.product(0, x).to_bits(),
            0,
            "a zero code gives +0 even for {x}"
        );
        for code in 1..16 {
            let y = ShiftAddF16.product(code, x);
            assert!(if x.is_nan() { y.is_nan() } else { y == x.to_f32() }, "{code} x {x}");
        }
        assert_eq!(WideF16::shifted(x, 3).fixed(), None);
    }
    for code in 1..16 {
        assert_eq!(ShiftAddF16.product(code, f16::NEG_ZERO).to_bits(), (-0.0f32).to_bits());
    }
    assert_eq!(ShiftAddF16.product(0, f16::NEG_ZERO).to_bits(), 0);
}
