//! Arithmetic in another mode than IEEE 754's default is refused before anything is written.
#![cfg(all(feature = "testing", target_arch = "x86_64"))]

use mixgemm::testing::{Draw, Inputs, for_each_backend, weights};
use mixgemm::{Epilogue, Error, GroupSums, Host, Mat, Mode, Par, Pool, Scheme, Workspace};
use std::arch::asm;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// MXCSR at its default: all exceptions masked, round to nearest even, subnormals kept.
const DEFAULT: u32 = 0x1F80;

/// Flush to zero, denormals are zero, and the three other rounding modes.
const OTHERS: [u32; 5] = [0x8000, 0x0040, 0x2000, 0x4000, 0x6000];

/// Calls `f` with other bits in MXCSR.
#[inline(never)]
fn with_mxcsr<T>(bits: u32, f: impl FnOnce() -> T) -> T {
    let set = |bits: u32| {
        // SAFETY: `ldmxcsr` reads four bytes, which `bits` has, and takes any value with the reserved bits clear. The
        // register is back at its default before anything but the library's own probe depends on it.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const bits, options(nostack, readonly)) }
    };
    set(DEFAULT | bits);
    let result = f();
    set(DEFAULT);
    result
}

#[test]
fn another_float_environment_is_refused_and_nothing_is_computed() {
    let draw = &mut Draw::new(81);
    let (w, inputs) = (weights(draw, Scheme::int(4).group(8), 9, 20), Inputs::new(draw, 5, 20));
    // New threads inherit the environment, so rayon's start here.
    rayon::join(|| (), || ());
    for_each_backend(|name, backend| {
        let prepared = backend.prepare(&w).unwrap();
        for (mode, x) in inputs.cases() {
            if !backend.capabilities().takes(mode) {
                continue;
            }
            for bits in OTHERS {
                let mut y = Mat::from_fn(5, 9, |_, _| 77.0f32);
                let mut sums = vec![77i64; 5 * 3 * 9];
                let results = with_mxcsr(bits, || {
                    [
                        backend.run(&prepared, x, mode, &Epilogue::new(), y.view_mut().into()),
                        backend.accumulate(&prepared, x, mode, y.view_mut()),
                        backend.group_sums(&prepared, x, mode, GroupSums::I64(&mut sums)),
                    ]
                });
                for result in results {
                    assert!(
                        matches!(result, Err(Error::FloatEnvironment { .. })),
                        "{name} {mode:?} {bits:#x}: {result:?}"
                    );
                }
                assert!(y.data().iter().all(|&y| y == 77.0), "{name} {mode:?} {bits:#x}");
                assert!(sums.iter().all(|&s| s == 77), "{name} {mode:?} {bits:#x}");
            }
        }
    });
}

/// Threads in another float environment.
struct Flushing(u32);

impl Pool for Flushing {
    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(2).unwrap()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|s| {
            for i in 0..tasks {
                s.spawn(move || with_mxcsr(self.0, || task(i)));
            }
        });
    }
}

/// With few activations the calling thread packs them, with many the workers do.
#[test]
fn workers_in_another_float_environment_are_refused_too() {
    let draw = &mut Draw::new(82);
    for (m, n, k) in [(1, 100, 20), (50, 65, 700)] {
        let (w, inputs) = (weights(draw, Scheme::int(4).group(16), n, k), Inputs::new(draw, m, k));
        let gemm = Host::new().prepare(&w).unwrap();
        let mut workspace = Workspace::new();
        for bits in OTHERS.into_iter().chain([0]) {
            let plan = gemm.plan(Mode::A8).unwrap().par(Par::Pool(Arc::new(Flushing(bits))));
            let x = inputs.f32.view().into();
            let mut y = Mat::<f32>::zeros(m, n);
            let run = plan.run(&mut workspace, x, &Epilogue::new(), y.view_mut().into());
            let continued = plan.accumulate(&mut workspace, x, y.view_mut());
            for result in [run, continued] {
                let refused = matches!(result, Err(Error::FloatEnvironment { .. }));
                assert_eq!(refused, bits != 0, "{m} x {n} x {k}, {bits:#x}: {result:?}");
            }
        }
    }
}
