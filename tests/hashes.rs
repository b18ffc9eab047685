//! The output bits of some hundred products against hashes that the repository carries, so that two machines, or two
//! versions, can be compared without meeting. Operands come from integer generators and exact conversions alone.
//!
//! After an intended change of meaning, `MIXGEMM_WRITE_HASHES=1 cargo test --features testing --test hashes` writes the
//! file anew and fails, to have its difference looked at.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::testing::{Draw, Inputs, book_schemes, for_each_backend, schemes, weights};
use mixgemm::{Activation, Activations, Element, Epilogue, Group, Mat, MatMut, Mode, Output, QuantMatrix, Scheme};
use mixgemm::{bf16, f16, reference};
use std::collections::BTreeMap;

/// One line a case: its name and the hash of its output in hexadecimal digits.
const HASHES: &str = include_str!("data/hashes.txt");

/// FNV-1a over the little-endian bytes of the output's elements.
fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

#[test]
fn the_hash_is_the_published_one() {
    assert_eq!(fnv1a(*b""), 0xCBF2_9CE4_8422_2325);
    assert_eq!(fnv1a(*b"foobar"), 0x8594_4171_F739_67E8);
}

/// The hash of what `run` writes into an output of this type.
fn hash_of<T: Element, const W: usize>((m, n): (usize, usize), bytes: fn(T) -> [u8; W], run: &dyn Fn(Output<'_>)) -> u64
where
    for<'a> Output<'a>: From<MatMut<'a, T>>,
{
    let mut y = Mat::<T>::zeros(m, n);
    run(y.view_mut().into());
    fnv1a(y.data().iter().flat_map(|&y| bytes(y)))
}

/// Makes some inputs of the last row infinite or NaN.
fn with_special(mut inputs: Inputs) -> Inputs {
    fn put<T: Element>(x: &mut Mat<T>) {
        let (mut x, specials) = (x.view_mut(), [f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        let row = x.row_mut(x.rows() - 1);
        for (i, k) in (0..row.len()).step_by(29).enumerate() {
            row[k] = T::from_f32(specials[i % 3]);
        }
    }
    put(&mut inputs.f32);
    put(&mut inputs.f16);
    put(&mut inputs.bf16);
    inputs
}

fn group_name(scheme: &Scheme) -> String {
    match scheme.group {
        Group::Length(length) => format!("g{length}"),
        group => format!("{group:?}").to_lowercase(),
    }
}

/// Rows, columns and depth: every tile height from 1 to 13, whole panels and parts of one, ragged groups.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (2, 33, 70),
    (12, 64, 131),
    (3, 7, 100),
    (1, 70, 257),
    (13, 31, 64),
    (4, 17, 96),
    (5, 40, 33),
    (8, 9, 160),
    (6, 65, 50),
    (7, 16, 128),
    (11, 5, 90),
];

/// Calls `check` with the name of every case, its weights, and a function that gives the hash of an output.
fn for_each_case(mut check: impl FnMut(&str, &QuantMatrix, &Case<'_>)) {
    let plain = (0..SHAPES.len()).map(|turn| (turn, schemes(SHAPES[turn].2, turn)));
    let books = (0..SHAPES.len())
        .step_by(3)
        .map(|turn| (turn, book_schemes(SHAPES[turn].2, turn)));
    let mut index = 0;
    for (turn, schemes) in plain.chain(books) {
        for (i, scheme) in schemes.into_iter().enumerate() {
            let (m, n, k) = SHAPES[(turn + i) % SHAPES.len()];
            let draw = &mut Draw::new(index);
            let w = weights(draw, scheme, n, k);
            let inputs = Inputs::new(draw, m, k);
            // Twelve turns: every width and kind of zero point meets every mode with every element, as some book does.
            let taken = (turn + i) % 12;
            let special = index % 5 == 4 && inputs.cases()[taken].0 != Mode::A8Given;
            let inputs = if special { with_special(inputs) } else { inputs };
            let (mode, x) = inputs.cases()[taken];
            let (bias, residual): (Vec<f32>, _) = (
                (0..n).map(|_| draw.signed()).collect(),
                Mat::from_fn(m, n, |_, _| draw.signed()),
            );
            let (finish, epilogue) = match index % 7 {
                0 => ("gelu", Epilogue::new().activation(Activation::Gelu).bias(&bias)),
                1 => ("silu", Epilogue::new().activation(Activation::Silu)),
                2 => (
                    "relu",
                    Epilogue::new().activation(Activation::Relu).residual(residual.view()),
                ),
                _ => ("plain", Epilogue::new()),
            };
            let output = ["f32", "f32", "f16", "bf16"][(index / 3 % 4) as usize];
            let name = format!(
                "{index:03}-{}-{:?}-{}-{:?}-{}-{}-{m}x{n}x{k}-{finish}{}-{output}",
                match scheme.book {
                    Some(_) => format!("b{i}"),
                    None => format!("w{}", scheme.bits),
                },
                scheme.zero,
                group_name(&scheme),
                scheme.scale,
                mode.name(),
                x.element(),
                if special { "-special" } else { "" },
            );
            let case = Case {
                x,
                mode,
                epilogue,
                shape: (m, n),
                output,
            };
            check(&name.to_lowercase(), &w, &case);
            index += 1;
        }
    }
}

/// One product, up to who computes it.
struct Case<'a> {
    x: Activations<'a>,
    mode: Mode,
    epilogue: Epilogue<'a>,
    shape: (usize, usize),
    output: &'static str,
}

impl Case<'_> {
    fn hash(&self, run: &dyn Fn(Output<'_>)) -> u64 {
        match self.output {
            "f16" => hash_of(self.shape, f16::to_le_bytes, run),
            "bf16" => hash_of(self.shape, bf16::to_le_bytes, run),
            _ => hash_of(self.shape, f32::to_le_bytes, run),
        }
    }
}

#[test]
fn outputs_have_the_hashes_on_file() {
    let write = std::env::var_os("MIXGEMM_WRITE_HASHES").is_some();
    let mut on_file = BTreeMap::new();
    for line in HASHES.lines() {
        let (name, hash) = line.split_once(' ').expect("a name, a space and a hash");
        assert_eq!(on_file.insert(name, hash), None, "{name} is there twice");
    }
    let mut found = String::new();
    for_each_case(|name, w, case| {
        let hash = case.hash(&|y| reference::run(w, case.x, case.mode, &case.epilogue, y).unwrap());
        found += &format!("{name} {hash:016x}\n");
        if write {
            return;
        }
        let expected = on_file.remove(name).unwrap_or_else(|| panic!("{name} is not on file"));
        assert_eq!(format!("{hash:016x}"), expected, "{name}: reference");
        for_each_backend(|backend_name, backend| {
            let capabilities = backend.capabilities();
            if capabilities.takes(case.mode) && capabilities.check_scheme(w.scheme()).is_ok() {
                let prepared = backend.prepare(w).unwrap();
                let hash = case.hash(&|y| {
                    backend.run(&prepared, case.x, case.mode, &case.epilogue, y).unwrap();
                });
                assert_eq!(format!("{hash:016x}"), expected, "{name}: {backend_name}");
            }
        });
    });
    if write {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hashes.txt");
        std::fs::write(file, found).unwrap();
        panic!("{file} is written anew: look at its difference, then run this without MIXGEMM_WRITE_HASHES");
    }
    assert!(on_file.is_empty(), "on file, but no case: {:?}", on_file.keys());
}
