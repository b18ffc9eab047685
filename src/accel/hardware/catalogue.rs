//! The cost of the built-in accelerators, read once.
#![forbid(unsafe_code)]

use crate::accel::array::Extents;
use crate::accel::catalogue::{self, ACCELERATORS, Accelerator};
use crate::accel::hardware::Hardware;
use crate::accel::hardware::estimate::Estimate;
use crate::backend::Report;
use crate::base::error::{Error, Result};
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::Scheme;
use alloc::vec::Vec;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Vec<Hardware>> = LazyLock::new(|| {
    let read = |accelerator: &Accelerator| {
        let hardware = accelerator.hardware();
        hardware.unwrap_or_else(|error| panic!("built-in {}: {error}", accelerator.name()))
    };
    let priced = ACCELERATORS
        .iter()
        .filter(|accelerator| accelerator.cost_file().is_some());
    priced.map(read).collect()
});

impl Accelerator {
    /// What it is made of.
    ///
    /// # Errors
    /// As [`Hardware::from_toml`]; [`Error::Value`] where the file has another name than the device, and
    /// [`Error::Unsupported`] where there is none.
    pub fn hardware(&self) -> Result<Hardware> {
        let file = self.cost_file().ok_or_else(|| {
            let expected =
                "an accelerator with the cost of its parts (that of an NPU is the time of its latency model)";
            Error::unsupported("device", expected, self.name())
        })?;
        let hardware = Hardware::from_toml(file)?;
        if hardware.name == self.name() {
            Ok(hardware)
        } else {
            Err(Error::value("name", self.name(), hardware.name))
        }
    }
}

impl Accelerator {
    /// What a product of this shape costs, with weights of this scheme and inputs of this mode.
    ///
    /// ```
    /// use mixgemm::accel::array::Extents;
    /// use mixgemm::{Mode, Scheme, accel::catalogue};
    /// let tpu = catalogue::named("tpu-int8")?;
    /// let estimate = tpu.estimate(&Scheme::int(8).per_channel(), Mode::A8Row, Extents::new(64, 4096, 4096))?;
    /// assert_eq!(estimate.macs, 64 * 4096 * 4096);
    /// assert!(estimate.stall_cycles < estimate.cycles && estimate.energy.total_pj() > estimate.energy.core_pj);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Accelerator::hardware`] and [`Hardware::estimate`].
    pub fn estimate(&self, scheme: &Scheme, mode: Mode, e: Extents) -> Result<Estimate> {
        self.hardware()?.holding(scheme, mode).estimate(e)
    }

    /// `Y = epilogue(X · Wᵀ)` with all that this accelerator has to say of it: the values in `y`, counted operations, and
    /// the cost of the product or why there is none. A product without operations, one whose sums an integer accumulator
    /// does not hold, and any product on an NPU have values and no cost.
    ///
    /// ```
    /// use mixgemm::accel::catalogue;
    /// use mixgemm::{Epilogue, Mat, Mode, QuantMatrix, Scheme};
    /// let weights = Mat::from_fn(32, 128, |n, k| ((n * 128 + k) as f32 * 0.37).sin());
    /// let w = QuantMatrix::quantize(weights.view(), Scheme::int(4).group(64).asymmetric())?;
    /// let x = Mat::from_fn(4, 128, |m, k| (m + k) as f32 * 0.01);
    /// let mut y = Mat::<f32>::zeros(4, 32);
    /// let mixpe = catalogue::named("mixpe-w4a8")?;
    /// let (report, estimate) = mixpe.run(&w, x.view().into(), Mode::A8, &Epilogue::new(), y.view_mut().into())?;
    /// let estimate = estimate?;
    /// assert_eq!(report.counters.scale_multiplications, estimate.scalings.sums);
    /// assert!(estimate.cycles > 0 && estimate.traffic.dram.weight_read > 4.0 * 32.0 * 128.0);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `prepare`, `compile` and `run` of [`Backend`](crate::Backend); the cost's own are those of
    /// [`Accelerator::estimate`].
    pub fn run(
        &self,
        w: &QuantMatrix,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<(Report, Result<Estimate>)> {
        let e = Extents::new(x.shape().0 as u64, w.n() as u64, w.k() as u64);
        let device = self.device();
        let prepared = device.prepare(w)?;
        device.compile(&prepared, x.shape().0)?;
        let report = device.run(&prepared, x, mode, epilogue, y)?;
        Ok((report, self.estimate(w.scheme(), mode, e)))
    }
}

impl Hardware {
    /// The built-in accelerators, in the order of [`ACCELERATORS`]: 32 × 32 elements each, 500 MHz, 28 nm, and the same
    /// scratchpads and channel, so that they differ in nothing but elements, formats and the place of scaling.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// assert_eq!(Hardware::catalogue()[0].name, "mixpe-w4a8");
    /// assert!(Hardware::catalogue().iter().all(|hardware| hardware.array.macs_per_cycle() == 1024));
    /// ```
    #[must_use]
    pub fn catalogue() -> &'static [Self] {
        &CATALOGUE
    }

    /// A built-in accelerator.
    ///
    /// # Errors
    /// [`Error::Value`]: there is none of this name; the names are listed.
    pub fn named(name: &str) -> Result<Self> {
        match CATALOGUE.iter().find(|hardware| hardware.name == name) {
            Some(hardware) => Ok(hardware.clone()),
            None => catalogue::named(name)?.hardware(),
        }
    }
}
