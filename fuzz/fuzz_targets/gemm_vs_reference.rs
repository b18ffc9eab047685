//! Every backend gives the bits of the reference, or its refusals, for any product on any layout of weights that this
//! CPU has kernels for, whoever works.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mixgemm::kernel::catalogue;
use mixgemm::testing::Backwards;
use mixgemm::{Backend, Host, MixPe, Par};
use mixgemm_fuzz::product::{Answers, Problem, Product};
use std::num::NonZeroUsize;
use std::sync::Arc;

#[derive(Debug, Arbitrary)]
struct Case {
    /// Which of the tiers and layouts that fit.
    kernels: u8,
    workers: Workers,
    product: Product,
}

#[derive(Debug, Arbitrary)]
enum Workers {
    Caller,
    Rayon(u8),
    Pool(u8),
}

impl Workers {
    fn par(&self) -> Par {
        let count = |threads: u8| NonZeroUsize::MIN.saturating_add(usize::from(threads % 8));
        match *self {
            Self::Caller => Par::Seq,
            Self::Rayon(threads) => Par::Rayon(count(threads)),
            Self::Pool(threads) => Par::Pool(Arc::new(Backwards(count(threads)))),
        }
    }
}

fn check_host(case: &Case, problem: &Problem, expected: &Answers) {
    let (bits, book) = (
        problem.weights().scheme().bits,
        problem.weights().scheme().book.is_some(),
    );
    let mut choices = Vec::new();
    for kernel in catalogue::kernels().filter(|k| k.supported() && (k.layout.bits, k.layout.book) == (bits, book)) {
        if !choices.contains(&(kernel.isa, kernel.layout)) {
            choices.push((kernel.isa, kernel.layout));
        }
    }
    let (isa, layout) = choices[usize::from(case.kernels) % choices.len()];
    let host = Host::new().isa(isa).expect("a supported tier").par(case.workers.par());
    let prepared = host
        .prepare_as(problem.weights(), layout)
        .expect("a layout of these bits");
    let answers = problem.answers(&host, &prepared);
    answers.check(expected, &|| format!("host {isa} {layout:?} {:?}", case.workers));
}

fn check_device(device: MixPe, problem: &Problem, expected: &Answers) {
    let capabilities = device.capabilities();
    let scheme = problem.weights().scheme();
    let takes_codes = scheme.bits <= capabilities.max_bits && scheme.book.is_none();
    let prepared = device.prepare(problem.weights());
    assert_eq!(prepared.is_ok(), takes_codes, "{}", device.name());
    let Ok(prepared) = prepared else { return };
    let answers = problem.answers(&device, &prepared);
    if capabilities.takes(problem.mode()) {
        answers.check(expected, &|| device.name().into());
    } else {
        assert!(answers.are_refusals(), "{} takes {:?}", device.name(), problem.mode());
    }
}

fuzz_target!(|case: Case| {
    let Some(problem) = case.product.problem() else { return };
    let expected = problem.expected();
    check_host(&case, &problem, &expected);
    check_device(MixPe::w4a8(), &problem, &expected);
    check_device(MixPe::w4a16(), &problem, &expected);
});
