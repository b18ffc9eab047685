//! Strided views at odd offsets; what lies between the rows stays as it was.
#![forbid(unsafe_code)]

use crate::compare::bits;
use mixgemm::testing::{Draw, Inputs, STATIC, for_each_backend, weights};
use mixgemm::{Activations, Element, Epilogue, Mat, MatMut, MatRef, Mode, Output, Scheme, reference};

/// A copy of a matrix at an odd offset with three elements between its rows.
fn spread<T: Copy + Default>(x: &Mat<T>, offset: usize, sentinel: T) -> (Vec<T>, usize) {
    let stride = x.cols() + 3;
    let mut data = vec![sentinel; offset + x.rows() * stride];
    for r in 0..x.rows() {
        data[offset + r * stride..][..x.cols()].copy_from_slice(x.view().row(r));
    }
    (data, stride)
}

const SENTINEL: f32 = 12_345.0;

fn check<T: Element>(scheme: Scheme)
where
    for<'a> Output<'a>: From<MatMut<'a, T>>,
{
    let (m, n, k, offset) = (14, 35, 70, 1);
    let draw = &mut Draw::new(11);
    let inputs = Inputs::new(draw, m, k);
    let w = weights(draw, scheme, n, k);
    let (f32, stride) = spread(&inputs.f32, offset, f32::NAN);
    let (f16, _) = spread(&inputs.f16, offset, mixgemm::f16::NAN);
    let (bf16, _) = spread(&inputs.bf16, offset, mixgemm::bf16::INFINITY);
    let (i8, _) = spread(&inputs.i8, offset, 127);
    fn view<T>(data: &[T], offset: usize, m: usize, k: usize, stride: usize) -> MatRef<'_, T> {
        MatRef::with_stride(&data[offset..], m, k, stride).unwrap()
    }
    let views: [(Mode, Activations<'_>); 5] = [
        (Mode::A8, view(&f32, offset, m, k, stride).into()),
        (Mode::A16, view(&bf16, offset, m, k, stride).into()),
        (STATIC, view(&f32, offset, m, k, stride).into()),
        (
            Mode::A8Given,
            Activations::int8_rows(view(&i8, offset, m, k, stride), &inputs.scales),
        ),
        (Mode::Exact, view(&f16, offset, m, k, stride).into()),
    ];
    let dense: [Activations<'_>; 5] = [
        inputs.f32.view().into(),
        inputs.bf16.view().into(),
        inputs.f32.view().into(),
        Activations::int8_rows(inputs.i8.view(), &inputs.scales),
        inputs.f16.view().into(),
    ];
    for ((mode, x), dense) in views.into_iter().zip(dense) {
        let mut expected = Mat::<T>::zeros(m, n);
        reference::run(&w, dense, mode, &Epilogue::new(), expected.view_mut().into()).unwrap();
        let (expected, stride) = spread(&expected, 3, T::from_f32(SENTINEL));
        for_each_backend(|name, backend| {
            if !backend.capabilities().takes(mode) {
                return;
            }
            let prepared = backend.prepare(&w).unwrap();
            let mut data = vec![T::from_f32(SENTINEL); expected.len()];
            let y = MatMut::with_stride(&mut data[3..], m, n, stride).unwrap();
            backend.run(&prepared, x, mode, &Epilogue::new(), y.into()).unwrap();
            assert!(data == expected, "{name} {mode:?} {}", T::NAME);
        });
    }
}

#[test]
fn strided_views_at_odd_offsets_give_the_same_bits_and_keep_what_lies_between() {
    check::<f32>(Scheme::int(4).group(32).asymmetric());
    check::<mixgemm::f16>(Scheme::int(4).group(9));
    check::<mixgemm::bf16>(Scheme::int(3).float_zero());
}

#[test]
fn a_continued_fold_keeps_what_lies_between_the_rows() {
    let (m, n, k) = (13, 33, 40);
    let draw = &mut Draw::new(12);
    let (inputs, w) = (
        Inputs::new(draw, m, k),
        weights(draw, Scheme::int(4).group(16).asymmetric(), n, k),
    );
    let first = Mat::from_fn(m, n, crate::compare::start);
    for (mode, x) in inputs.cases() {
        let mut expected = first.clone();
        reference::accumulate(&w, x, mode, expected.view_mut()).unwrap();
        let (expected, stride) = spread(&expected, 5, SENTINEL);
        for_each_backend(|name, backend| {
            if backend.capabilities().takes(mode) {
                let (mut data, _) = spread(&first, 5, SENTINEL);
                let y = MatMut::with_stride(&mut data[5..], m, n, stride).unwrap();
                backend.accumulate(&backend.prepare(&w).unwrap(), x, mode, y).unwrap();
                assert_eq!(bits(&data), bits(&expected), "{name} {mode:?}");
            }
        });
    }
}

#[test]
fn a_row_alone_gives_the_bits_it_has_in_a_batch() {
    let (m, n, k) = (29, 50, 65);
    let draw = &mut Draw::new(13);
    let inputs = Inputs::new(draw, m, k);
    for scheme in [
        Scheme::int(4).group(32).asymmetric(),
        Scheme::int(2).group(7).float_zero(),
    ] {
        let w = weights(draw, scheme, n, k);
        for (mode, x) in inputs.cases() {
            for_each_backend(|name, backend| {
                if !backend.capabilities().takes(mode) {
                    return;
                }
                let prepared = backend.prepare(&w).unwrap();
                let mut batch = Mat::<f32>::zeros(m, n);
                let run = |x, y: &mut Mat<f32>| {
                    let y = y.view_mut().into();
                    backend.run(&prepared, x, mode, &Epilogue::new(), y).unwrap();
                };
                run(x, &mut batch);
                for r in 0..m {
                    let mut alone = Mat::<f32>::zeros(1, n);
                    run(x.sub_rows(r, 1).unwrap(), &mut alone);
                    assert_eq!(bits(alone.data()), bits(batch.view().row(r)), "{name} {mode:?} row {r}");
                }
            });
        }
    }
}
