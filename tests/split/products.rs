//! Products of activations on and beyond the edges of the clamp.
#![forbid(unsafe_code)]

use crate::{Aside, T, check_product, inputs};
#[cfg(feature = "lab")]
use mixgemm::accel::catalogue::npu;
use mixgemm::backend::Erased;
use mixgemm::testing::{Backwards, Draw, weights};
use mixgemm::{Backend, Host, Isa, Mat, MixPe, Par, ScaleType, Scheme, Split, ZeroPoint};
use proptest::prelude::*;
use std::num::NonZeroUsize;
use std::sync::Arc;

fn check<B: Backend>(name: &str, backend: B) {
    let draw = &mut Draw::new(91);
    let capabilities = backend.capabilities();
    let split = Split::new(backend);
    for (bits, k) in [(4u8, 70), (1, 33), (8, 100), (3, 64), (7, 1)] {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let scheme = Scheme {
                zero,
                ..Scheme::int(bits).scales(ScaleType::F32)
            };
            for scheme in [scheme.per_tensor(), scheme.per_channel(), scheme.group(16)] {
                if capabilities.check_scheme(&scheme).is_err() {
                    continue;
                }
                let w = weights(draw, scheme, 37, k);
                check_product(name, &split, &w, &inputs(draw, k));
            }
        }
    }
}

#[test]
fn a_split_around_any_backend_gives_the_bits_of_the_unclamped_product() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let host = Host::new().isa(isa).unwrap();
        check(isa.name(), host.clone());
        check(isa.name(), Aside(host));
    }
    check("mixpe", MixPe::w4a8());
}

/// The NPU clamps; the split brings back what it clamped, around one scale and around groups.
#[cfg(feature = "lab")]
#[test]
fn a_split_around_an_npu_gives_the_bits_of_the_unclamped_product() {
    let scalar = || Box::new(Host::new().isa(Isa::Scalar).unwrap());
    check("npu", npu::int8());
    check("npu fast", npu::int8().fast(scalar()));
    check("npu by groups", npu::grouped());
}

#[test]
fn backends_that_are_chosen_at_run_time_are_split_too() {
    let chosen: [(&str, Box<dyn mixgemm::AnyBackend>); 4] = [
        ("host", Box::new(Host::new())),
        ("aside", Box::new(Aside(Host::new()))),
        ("mixpe", Box::new(MixPe::w4a8())),
        ("fast mixpe", MixPe::w4a8().with_values_from(Box::new(Host::new()))),
    ];
    for (name, backend) in chosen {
        let adds_rest = name == "host" || name == "fast mixpe";
        let backend = Erased::from(backend);
        assert_eq!(backend.adds_rest(), adds_rest, "{name}");
        check(name, backend);
    }
}

/// One group's sums need more than 32 bits, its neighbours' do not, and one call has several panels.
#[test]
fn groups_beyond_32_bits_stand_between_others() {
    let draw = &mut Draw::new(95);
    let x = |rows| {
        let outlier = |r: usize, k: usize| if k / 16 == 1 { 8_388_607.0 } else { 200.0 + r as f32 };
        Mat::from_fn(rows, 64, |r, k| {
            T * if k % 16 == 5 {
                outlier(r, k)
            } else {
                (k + r) as f32 - 30.0
            }
        })
    };
    for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
        let scheme = Scheme {
            zero,
            ..Scheme::int(8).group(16).scales(ScaleType::F32)
        };
        let w = weights(draw, scheme, 130, 64);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            let split = Split::new(Host::new().isa(isa).unwrap());
            check_product(isa.name(), &split, &w, &x(1));
            // A tile of four rows or more on every tier: rows whose outliers are in the same channels.
            check_product(isa.name(), &split, &w, &x(5));
            check_product(isa.name(), &split, &w, &x(13));
        }
    }
}

#[test]
fn threads_change_nothing() {
    let draw = &mut Draw::new(93);
    let par = Par::Pool(Arc::new(Backwards(NonZeroUsize::new(3).unwrap())));
    let w = weights(draw, Scheme::int(8).group(48), 130, 1500);
    let x = inputs(draw, 1500);
    let x = Mat::from_fn(60, 1500, |r, c| x.view().row(r % 11)[(c * 7 + r) % 1500]);
    check_product("one thread", &Split::new(Host::new()), &w, &x);
    check_product("three", &Split::new(Host::new().par(par.clone())).par(par), &w, &x);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mixture of values on and beyond the edges, in ragged groups: device(c) + host(r) is the unclamped product.
    #[test]
    fn cut_products_add_up(
        seed in any::<u64>(),
        bits in 1u8..=8,
        length in 1usize..40,
        (m, n, k) in (1usize..20, 1usize..40, 1usize..90),
        share in 0usize..=8,
        size in prop::sample::select(vec![128i32, 200, 30_000, 8_388_607]),
    ) {
        let draw = &mut Draw::new(seed);
        let scheme = [Scheme::int(bits), Scheme::int(bits).asymmetric(), Scheme::int(bits).float_zero()][draw.below(3)];
        let scheme = [scheme.per_tensor(), scheme.per_channel(), scheme.group(length)][draw.below(3)];
        let w = weights(draw, scheme, n, k);
        let edges = [-128, 127, 128, -200, 200, -30_000, 30_000, 0];
        let x = Mat::from_fn(m, k, |_, _| {
            let v = match draw.below(8) {
                i if i < share => [size, -size, edges[draw.below(8)]][draw.below(3)],
                _ => draw.below(255) as i32 - 127,
            };
            v as f32 * T
        });
        check_product("host", &Split::new(Host::new()), &w, &x);
        if bits <= 4 {
            check_product("mixpe", &Split::new(MixPe::w4a8()), &w, &x);
        }
        #[cfg(feature = "lab")]
        if bits == 8 {
            check_product("npu by groups", &Split::new(npu::grouped()), &w, &x);
            if Backend::capabilities(&npu::int8()).check_scheme(w.scheme()).is_ok() {
                check_product("npu", &Split::new(npu::int8()), &w, &x);
            }
        }
    }
}
