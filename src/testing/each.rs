//! Loops over everything that must give the same bits.
#![forbid(unsafe_code)]

use crate::accel::catalogue::mixpe::MixPe;
use crate::backend::AnyBackend;
use crate::base::parallel::{Par, Pool};
use crate::host::Host;
use crate::kernel::{Kernel, catalogue};
use crate::simd::cpu::Isa;
use alloc::{format, string::String, sync::Arc};
use core::num::NonZeroUsize;

/// A pool that runs its tasks one after the other on the calling thread, the last task first: what depends on the order
/// of tasks, or on two of them running at once, fails with it.
#[derive(Debug, Clone, Copy)]
pub struct Backwards(pub NonZeroUsize);

impl Pool for Backwards {
    fn threads(&self) -> NonZeroUsize {
        self.0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).rev().for_each(task);
    }
}

/// Whether tests run this tier. They run each that this CPU has; where `MIXGEMM_EXPECT_ISA` names one, as on an emulated
/// CPU, which is slow and there for the sake of that tier, only that one.
fn tested(isa: Isa) -> bool {
    #[cfg(feature = "std")]
    if let Ok(expected) = std::env::var("MIXGEMM_EXPECT_ISA") {
        return isa.supported() && isa.name() == expected;
    }
    isa.supported()
}

/// Calls `f` with every row of the catalogue that this CPU can run; gives their number.
pub fn for_each_kernel(mut f: impl FnMut(&'static Kernel)) -> usize {
    catalogue::kernels().filter(|k| k.supported()).map(&mut f).count()
}

/// Calls `f` with every backend and a label: the host on every tier under test, alone, with two threads of the current
/// rayon pool and with a pool of three, and both devices of MixPE. What one of them does not take is in its
/// [capabilities](AnyBackend::capabilities).
pub fn for_each_backend(mut f: impl FnMut(&str, &dyn AnyBackend)) {
    let three = NonZeroUsize::MIN.saturating_add(2);
    for isa in Isa::ALL.into_iter().filter(|&isa| tested(isa)) {
        let workers = [
            Par::Seq,
            #[cfg(feature = "rayon")]
            Par::Rayon(NonZeroUsize::MIN.saturating_add(1)),
            Par::Pool(Arc::new(Backwards(three))),
        ];
        for par in workers {
            let label: String = format!("host {isa} {par:?}");
            f(&label, &Host::new().isa(isa).expect("a supported tier").par(par));
        }
    }
    f("mixpe w4a8", &MixPe::w4a8());
    f("mixpe w4a16", &MixPe::w4a16());
}
