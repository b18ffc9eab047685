//! The border between the kernels' 32-bit fold and the wide one, with three and four slices: inputs whose low slices
//! push `D_0 + 256·D_1` as far as it goes, for group lengths on both sides of where it no longer fits.
#![forbid(unsafe_code)]

use mixgemm::{Epilogue, Floats, Host, Mat, Mode, QuantMatrix, ScaleType, Scheme, Workspace, Zeros, f16, reference};

/// Codes at their maximum, zero points 0; one large input, one at the unit, all others 32512 units.
fn check(bits: u8, k: usize, large: f64) {
    let scheme = Scheme::int(bits).asymmetric().scales(ScaleType::F32);
    let codes = vec![scheme.max_code(); k];
    let w = QuantMatrix::from_parts(scheme, 1, k, codes, Floats::F32(vec![1.0]), Zeros::Integer(vec![0])).unwrap();
    let unit = 2f64.powi(-24);
    let x = Mat::from_fn(1, k, |_, i| f16::from_f64(unit * [large, 1.0, 32_512.0][i.min(2)]));
    let (mut y, mut expected) = (Mat::<f32>::zeros(1, 1), Mat::<f32>::zeros(1, 1));
    let epilogue = Epilogue::new();
    let gemm = Host::new().prepare(&w).unwrap();
    gemm.run_with(&mut Workspace::new(), x.view(), Mode::Exact, &epilogue, y.view_mut())
        .unwrap();
    reference::run(&w, x.view().into(), Mode::Exact, &epilogue, expected.view_mut().into()).unwrap();
    assert_eq!(
        y.data()[0].to_bits(),
        expected.data()[0].to_bits(),
        "{bits} bits, K = {k}, {large}"
    );
}

#[test]
fn groups_around_the_border_have_the_bits_of_the_reference() {
    for (bits, lengths) in [(8, 200..450), (4, 3900..4200)] {
        for k in lengths {
            check(bits, k, 127.0 * 65_536.0);
            check(bits, k, 64.0 * 16_777_216.0);
        }
    }
}
