//! What the reference says, and whether a backend says the same.
#![forbid(unsafe_code)]

use mixgemm::{Activations, AnyBackend, Epilogue, Error, GroupSums, Mat, Mode, QuantMatrix, reference};

/// A starting value for continued folds: zeros of both signs, infinities and numbers.
pub(crate) fn start(r: usize, c: usize) -> f32 {
    match (r * 5 + c * 3) % 17 {
        0 => -0.0,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => 1e-42,
        4 => 3e38,
        i => (i as f32 - 9.0) * 0.37,
    }
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|y| y.to_bits()).collect()
}

/// Asserts equal bits and names the first element that differs.
pub(crate) fn assert_bits(found: &[f32], expected: &[f32], columns: usize, what: &dyn Fn() -> String) {
    assert_eq!(found.len(), expected.len());
    let differs = bits(found).iter().zip(bits(expected)).position(|(a, b)| *a != b);
    if let Some(i) = differs {
        let (r, c) = (i / columns, i % columns);
        panic!("{}: ({r}, {c}) is {:e}, not {:e}", what(), found[i], expected[i]);
    }
}

/// The reference's answers to one problem.
pub(crate) struct Expected {
    run: Mat<f32>,
    accumulated: Mat<f32>,
    sums: Vec<i64>,
}

impl Expected {
    pub(crate) fn new(w: &QuantMatrix, x: Activations<'_>, mode: Mode, epilogue: &Epilogue<'_>) -> Self {
        let m = x.shape().0;
        let mut run = Mat::zeros(m, w.n());
        reference::run(w, x, mode, epilogue, run.view_mut().into()).unwrap();
        let mut accumulated = Mat::from_fn(m, w.n(), start);
        reference::accumulate(w, x, mode, accumulated.view_mut()).unwrap();
        let mut sums = vec![0; m * w.groups() * w.n()];
        reference::group_sums(w, x, mode, GroupSums::I64(&mut sums)).unwrap();
        Self { run, accumulated, sums }
    }

    /// All that a backend computes from this problem is the same. Whether it took part.
    pub(crate) fn check(
        &self,
        (name, backend): (&str, &dyn AnyBackend),
        w: &QuantMatrix,
        (x, mode): (Activations<'_>, Mode),
        epilogue: &Epilogue<'_>,
    ) -> bool {
        let capabilities = backend.capabilities();
        if !capabilities.takes(mode) || capabilities.check_scheme(w.scheme()).is_err() {
            return false;
        }
        let (m, n) = (x.shape().0, w.n());
        let what = |call: &str| {
            let (scheme, shape) = (*w.scheme(), (m, n, w.k()));
            format!("{name}: {call} {mode:?} {} {shape:?} {scheme:?}", x.element())
        };
        let prepared = backend.prepare(w).unwrap();
        let mut y = Mat::from_fn(m, n, |_, _| f32::NAN);
        let report = backend.run(&prepared, x, mode, epilogue, y.view_mut().into()).unwrap();
        assert_bits(y.data(), self.run.data(), n, &|| what("run"));
        let rows = m as u64 * n as u64 * w.k() as u64;
        assert!(report.counters.macs <= rows && !report.kernel.is_empty());
        let mut y = Mat::from_fn(m, n, start);
        backend.accumulate(&prepared, x, mode, y.view_mut()).unwrap();
        assert_bits(y.data(), self.accumulated.data(), n, &|| what("accumulate"));
        let mut wide = vec![i64::MIN; self.sums.len()];
        backend
            .group_sums(&prepared, x, mode, GroupSums::I64(&mut wide))
            .unwrap();
        assert!(wide == self.sums, "{}", what("group_sums in i64"));
        let mut narrow = vec![i32::MIN; self.sums.len()];
        match backend.group_sums(&prepared, x, mode, GroupSums::I32(&mut narrow)) {
            Ok(_) => {
                let same = narrow.iter().map(|&s| i64::from(s)).eq(self.sums.iter().copied());
                assert!(same, "{}", what("group_sums in i32"));
            }
            Err(error) => {
                assert!(matches!(error, Error::Unsupported { argument: "sums", .. }), "{error}");
                assert!(mode == Mode::Exact || w.scheme().group_length(w.k()) > 256, "{error}");
            }
        }
        true
    }
}
