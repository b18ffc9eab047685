//! The border between the kernels' 32-bit fold and the wide one, with two, three and four slices: inputs whose low slices
//! push `D_0 + 256·D_1` as far as it goes, for group lengths on both sides of where it no longer fits.
#![forbid(unsafe_code)]

use mixgemm::{
    CodeBook, Epilogue, Floats, Host, Mat, Mode, QuantMatrix, ScaleType, Scheme, Workspace, Zeros, f16, reference,
};

/// One output of K codes that are all the same.
fn check(scheme: Scheme, code: u8, zeros: Zeros, mode: Mode, x: &Mat<f16>) {
    let k = x.cols();
    let scheme = scheme.scales(ScaleType::F32);
    let w = QuantMatrix::from_parts(scheme, 1, k, vec![code; k], Floats::F32(vec![1.0]), zeros).unwrap();
    let (mut y, mut expected) = (Mat::<f32>::zeros(1, 1), Mat::<f32>::zeros(1, 1));
    let epilogue = Epilogue::new();
    let gemm = Host::new().prepare(&w).unwrap();
    gemm.run_with(&mut Workspace::new(), x.view(), mode, &epilogue, y.view_mut())
        .unwrap();
    reference::run(&w, x.view().into(), mode, &epilogue, expected.view_mut().into()).unwrap();
    let (found, expected) = (y.data()[0], expected.data()[0]);
    assert_eq!(
        found.to_bits(),
        expected.to_bits(),
        "{scheme:?}, code {code}, K = {k}, {mode:?}: {found} instead of {expected}"
    );
}

/// One large input, one at the unit, all others 32512 units.
fn of_slices(k: usize, large: f64) -> Mat<f16> {
    let unit = 2f64.powi(-24);
    Mat::from_fn(1, k, |_, i| f16::from_f64(unit * [large, 1.0, 32_512.0][i.min(2)]))
}

/// With three slices, and with four.
const LARGE: [f64; 2] = [127.0 * 65_536.0, 64.0 * 16_777_216.0];

/// Codes at their maximum, zero points 0.
#[test]
fn groups_around_the_border_have_the_bits_of_the_reference() {
    for (bits, lengths) in [(8, 200..450), (4, 3900..4200)] {
        let scheme = Scheme::int(bits).asymmetric();
        for k in lengths {
            for large in LARGE {
                let zeros = Zeros::Integer(vec![0]);
                check(scheme, scheme.max_code(), zeros, Mode::Exact, &of_slices(k, large));
            }
        }
    }
}

/// Levels at both ends of a book, for lengths around the border, which follows from what its levels are carried as, and
/// around where the sums of the levels themselves leave 32 bits.
#[test]
fn groups_around_the_border_of_a_book_have_the_bits_of_the_reference() {
    for (book, lengths) in [
        (CodeBook::IQ4_NL, [260..280, 510..530]),
        (CodeBook::MXFP4, [2600..2620, 5480..5510]),
    ] {
        let scheme = Scheme::book(book);
        let code = |level: i8| book.levels().iter().position(|&v| v == level).unwrap() as u8;
        let (least, largest) = book.range();
        for k in lengths.into_iter().flatten() {
            for code in [code(least), code(largest)] {
                for sign in [1.0, -1.0] {
                    let most = Mat::from_fn(1, k, |_, _| f16::from_f32(sign * 2039.0 / 1024.0)); // a = 32624
                    check(scheme, code, Zeros::Symmetric, Mode::A16, &most);
                }
                for large in LARGE {
                    check(scheme, code, Zeros::Symmetric, Mode::Exact, &of_slices(k, large));
                }
            }
        }
    }
}
