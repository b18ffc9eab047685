//! Which tier this CPU is found to have. Under an emulator, or on a machine whose CPU is known, `MIXGEMM_EXPECT_ISA` says
//! which it must be: tests of a tier that is not found would pass without running.
#![forbid(unsafe_code)]

use mixgemm::Isa;

#[test]
fn the_best_tier_is_the_expected_one() {
    let best = Isa::best(None);
    assert!(best.supported());
    if let Ok(expected) = std::env::var("MIXGEMM_EXPECT_ISA") {
        assert_eq!(best.name(), expected);
    }
}
