//! Loops over everything that must give the same bits.
#![forbid(unsafe_code)]

use crate::accel::catalogue::{ACCELERATORS, Accelerator};
use crate::backend::AnyBackend;
use crate::base::parallel::{Par, Pool};
use crate::host::Host;
use crate::kernel::{Kernel, catalogue};
use crate::simd::cpu::Isa;
use alloc::{boxed::Box, format, string::String, sync::Arc};
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

/// Calls `f` with every backend that returns the bits of the reference, and a label: the host on every tier under test,
/// alone, with two threads of the current rayon pool and with a pool of three, and the accelerators of the
/// [catalogue](crate::accel::catalogue) that neither round nor ask for graphs, each with values of its own and of the
/// host. What one of them
/// does not take is in its [capabilities](AnyBackend::capabilities).
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
    let isa = Isa::ALL.into_iter().rfind(|&isa| tested(isa)).unwrap_or(Isa::Scalar);
    let host = || Host::new().isa(isa).expect("a supported tier");
    for accelerator in ACCELERATORS {
        if accelerator.device().capabilities().static_shapes {
            continue;
        }
        if let Some(fast) = accelerator.with_values_from(Box::new(host())) {
            f(accelerator.name(), accelerator.device().as_ref());
            f(&format!("{} fast", accelerator.name()), fast.as_ref());
        }
    }
}

/// Calls `f` with every accelerator of the catalogue that takes [`Mode::Native`](crate::Mode::Native).
pub fn for_each_native_device(mut f: impl FnMut(&str, &dyn AnyBackend)) {
    for device in ACCELERATORS.iter().map(Accelerator::device) {
        if device.capabilities().native {
            f(device.name(), device.as_ref());
        }
    }
}
