//! Which tier is taken. Under an emulator, or on a machine whose CPU is known, `MIXGEMM_EXPECT_ISA` says which the fastest
//! must be: tests of a tier that is not found would pass without running.
#![forbid(unsafe_code)]

use mixgemm::{Host, Isa, Mat, Mode, QuantMatrix, Scheme};
use std::env::var;

#[test]
fn the_best_tier_is_the_expected_one() {
    let best = Isa::best(None);
    assert!(best.supported() && best.of_this_architecture());
    if let Ok(expected) = var("MIXGEMM_EXPECT_ISA") {
        assert_eq!(best.name(), expected);
    }
}

/// The gate runs this with the variable set.
#[test]
fn a_host_takes_the_best_tier_that_mixgemm_isa_allows() {
    let w = QuantMatrix::quantize(Mat::from_fn(3, 5, |n, k| (n + k) as f32).view(), Scheme::int(4)).unwrap();
    let taken = || Host::new().prepare(&w).unwrap().plan(Mode::A8).unwrap().explain(1).isa;
    let Ok(cap) = var("MIXGEMM_ISA") else {
        assert_eq!(taken(), Isa::best(None));
        return;
    };
    let capped: Isa = cap.parse().expect("a tier");
    if capped.of_this_architecture() {
        assert!(taken() <= capped && taken().supported());
        assert_eq!(taken() == capped, capped.supported());
    } else {
        let error = Host::new().prepare(&w).unwrap_err().to_string();
        assert!(error.contains("MIXGEMM_ISA") && error.contains(&cap), "{error}");
    }
}
