//! Random shapes, schemes, modes and epilogues.
#![forbid(unsafe_code)]

use crate::compare::Expected;
use mixgemm::testing::{BOOKS, Draw, Inputs, for_each_backend, weights};
use mixgemm::{Activation, Epilogue, Group, Mat, ScaleType, Scheme, ZeroPoint};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

fn scheme() -> impl Strategy<Value = Scheme> {
    let group = prop_oneof![
        4 => (1usize..70).prop_map(Group::Length),
        1 => Just(Group::Channel),
        1 => Just(Group::Tensor),
    ];
    let zero = prop_oneof![
        Just(ZeroPoint::Symmetric),
        Just(ZeroPoint::Integer),
        Just(ZeroPoint::Float)
    ];
    let scale = prop_oneof![Just(ScaleType::F32), Just(ScaleType::F16), Just(ScaleType::Bf16)];
    let book = prop_oneof![3 => Just(None), 1 => (0..BOOKS.len()).prop_map(|i| Some(BOOKS[i]))];
    (prop_oneof![Just(4u8), 1u8..=8], book, group, zero, scale).prop_map(|(bits, book, group, zero, scale)| {
        let scheme = match book {
            Some(book) => Scheme::book(book),
            None => Scheme {
                zero,
                ..Scheme::int(bits)
            },
        };
        Scheme {
            group,
            ..scheme.scales(scale)
        }
    })
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Gelu),
        Just(Activation::Silu)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_products_give_the_bits_of_the_reference(
        seed in any::<u64>(),
        scheme in scheme(),
        (m, n, k) in (0usize..30, 0usize..100, 0usize..150),
        case in 0usize..12,
        activation in activation(),
        with in any::<(bool, bool)>(),
    ) {
        let draw = &mut Draw::new(seed);
        let w = weights(draw, scheme, n, k);
        let inputs = Inputs::new(draw, m, k);
        let bias: Vec<f32> = (0..n).map(|_| draw.signed()).collect();
        let residual = Mat::from_fn(m, n, |_, _| draw.signed());
        let mut epilogue = Epilogue::new().activation(activation);
        if with.0 {
            epilogue = epilogue.bias(&bias);
        }
        if with.1 {
            epilogue = epilogue.residual(residual.view());
        }
        let (mode, x) = inputs.cases()[case];
        let expected = Expected::new(&w, x, mode, &epilogue);
        for_each_backend(|name, backend| {
            expected.check((name, backend), &w, (x, mode), &epilogue);
        });
    }
}
