//! Hurtful shapes of every scheme in every mode on every backend; epilogues and output types.
#![forbid(unsafe_code)]

use crate::compare::{Expected, assert_bits};
use mixgemm::testing::{Draw, Inputs, book_schemes, for_each_backend, hurtful_shapes, schemes, weights};
use mixgemm::{Activation, Element, Epilogue, Mat, MatMut, Mode, Output, Scheme, bf16, f16, reference};
use std::collections::BTreeMap;

#[test]
fn hurtful_shapes_give_the_bits_of_the_reference() {
    let mut counts = BTreeMap::<String, usize>::new();
    for (turn, shape) in hurtful_shapes().into_iter().enumerate() {
        let draw = &mut Draw::new(turn as u64);
        let inputs = Inputs::new(draw, shape.m, shape.k);
        let schemes = schemes(shape.k, turn).into_iter().chain(book_schemes(shape.k, turn));
        for (i, scheme) in schemes.enumerate() {
            let w = weights(draw, scheme, shape.n, shape.k);
            let cases = inputs.cases();
            // Modes and element types take turns; every second scheme sees the other half of them.
            for (mode, x) in cases.into_iter().skip((turn + i) % 3).step_by(3) {
                let expected = Expected::new(&w, x, mode, &Epilogue::new());
                for_each_backend(|name, backend| {
                    if expected.check((name, backend), &w, (x, mode), &Epilogue::new()) {
                        *counts.entry(format!("{name} {}", mode.name())).or_default() += 1;
                    }
                });
            }
        }
    }
    for_each_backend(|name, backend| {
        for (mode, _) in Inputs::new(&mut Draw::new(0), 1, 1).cases() {
            if backend.capabilities().takes(mode) {
                let count = counts.get(&format!("{name} {}", mode.name())).copied();
                assert!(count > Some(50), "{name} in {mode:?}: {count:?}");
            }
        }
    });
}

fn store_all<T: Element>(epilogue: &Epilogue<'_>, bits: impl Fn(T) -> u32)
where
    for<'a> Output<'a>: From<MatMut<'a, T>>,
{
    let draw = &mut Draw::new(99);
    let inputs = Inputs::new(draw, 9, 70);
    for scheme in [Scheme::int(4).group(32).asymmetric(), Scheme::int(3).float_zero()] {
        let w = weights(draw, scheme, 37, 70);
        for (mode, x) in inputs.cases() {
            let mut expected = Mat::<T>::zeros(9, 37);
            reference::run(&w, x, mode, epilogue, expected.view_mut().into()).unwrap();
            for_each_backend(|name, backend| {
                if backend.capabilities().takes(mode) {
                    let mut y = Mat::<T>::zeros(9, 37);
                    let prepared = backend.prepare(&w).unwrap();
                    let out = y.view_mut().into();
                    backend.run(&prepared, x, mode, epilogue, out).unwrap();
                    let pairs = y.data().iter().zip(expected.data());
                    for (i, (&y, &e)) in pairs.enumerate() {
                        assert_eq!(bits(y), bits(e), "{name} {mode:?} {} {epilogue:?} at {i}", T::NAME);
                    }
                }
            });
        }
    }
}

#[test]
fn every_epilogue_and_output_type_gives_the_bits_of_the_reference() {
    let bias: Vec<f32> = (0..37).map(|n| (n as f32 - 20.0) * 0.3).collect();
    let residual: Vec<f32> = (0..9 * 40).map(|i| ((i * 7 % 31) as f32 - 15.0) * 1.3).collect();
    let residual = mixgemm::MatRef::with_stride(&residual, 9, 37, 40).unwrap();
    let all = Epilogue::new().bias(&bias).residual(residual);
    for epilogue in [
        Epilogue::new(),
        Epilogue::new().bias(&bias),
        Epilogue::new().residual(residual),
        Epilogue::new().activation(Activation::Relu),
        all.activation(Activation::Relu),
        all.activation(Activation::Gelu),
        all.activation(Activation::Silu),
    ] {
        store_all::<f32>(&epilogue, f32::to_bits);
        store_all::<f16>(&epilogue, |y| u32::from(y.to_bits()));
        store_all::<bf16>(&epilogue, |y| u32::from(y.to_bits()));
    }
}

/// `act(y·t + bias) + residual`, each step rounded: written out here, so that the reference's own epilogue is checked.
#[test]
fn the_epilogue_is_what_its_formula_says() {
    let draw = &mut Draw::new(5);
    let (inputs, w) = (
        Inputs::new(draw, 4, 33),
        weights(draw, Scheme::int(5).asymmetric(), 35, 33),
    );
    let bias: Vec<f32> = (0..35).map(|n| n as f32 * 0.7 - 9.0).collect();
    let residual = Mat::from_fn(4, 35, |r, c| (r * 35 + c) as f32 * 0.11 - 4.0);
    let x = mixgemm::Activations::int8_rows(inputs.i8.view(), &inputs.scales);
    let mut plain = Mat::<f32>::zeros(4, 35);
    reference::accumulate(&w, x, Mode::A8Given, plain.view_mut()).unwrap();
    let expected = Mat::from_fn(4, 35, |r, c| {
        (plain.view().row(r)[c] * inputs.scales[r] + bias[c]).max(0.0) + residual.view().row(r)[c]
    });
    let epilogue = Epilogue::new()
        .bias(&bias)
        .activation(Activation::Relu)
        .residual(residual.view());
    for_each_backend(|name, backend| {
        if backend.capabilities().takes(Mode::A8Given) && backend.capabilities().max_bits >= 5 {
            let mut y = Mat::<f32>::zeros(4, 35);
            let prepared = backend.prepare(&w).unwrap();
            backend
                .run(&prepared, x, Mode::A8Given, &epilogue, y.view_mut().into())
                .unwrap();
            assert_bits(y.data(), expected.data(), 35, &|| name.into());
        }
    });
}

/// Continuing the fold over two halves of K, cut between groups, is the fold over all of K.
#[test]
fn a_fold_continues_where_another_left_off() {
    let draw = &mut Draw::new(6);
    let (m, n, k, cut) = (7, 40, 112, 48);
    let whole = weights(draw, Scheme::int(4).group(16).asymmetric(), n, k);
    let part = |from: usize, to: usize| {
        let pick = |f: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..n)
                .flat_map(|r| (from / 16..to / 16).map(move |g| (r, g)))
                .map(|(r, g)| f(r, g))
                .collect()
        };
        let codes = (0..n).flat_map(|r| whole.code_row(r)[from..to].to_vec()).collect();
        let scales = mixgemm::Floats::from_f32(whole.scheme().scale, &pick(&|r, g| whole.scale(r, g)));
        let zeros = pick(&|r, g| whole.zero(r, g)).iter().map(|&z| z as u16).collect();
        let zeros = mixgemm::Zeros::Integer(zeros);
        mixgemm::QuantMatrix::from_parts(*whole.scheme(), n, to - from, codes, scales, zeros).unwrap()
    };
    let inputs = Inputs::new(draw, m, k);
    let halves = [(part(0, cut), 0, cut), (part(cut, k), cut, k)];
    for_each_backend(|name, backend| {
        let mode = if backend.capabilities().a8 {
            Mode::A8
        } else {
            Mode::Exact
        };
        let mut expected = Mat::<f32>::zeros(m, n);
        reference::accumulate(&whole, inputs.f16.view().into(), mode, expected.view_mut()).unwrap();
        let mut y = Mat::<f32>::zeros(m, n);
        for (w, from, to) in &halves {
            let x = mixgemm::MatRef::with_stride(&inputs.f16.data()[*from..], m, to - from, k).unwrap();
            let prepared = backend.prepare(w).unwrap();
            backend.accumulate(&prepared, x.into(), mode, y.view_mut()).unwrap();
        }
        assert_bits(y.data(), expected.data(), n, &|| name.into());
    });
}
