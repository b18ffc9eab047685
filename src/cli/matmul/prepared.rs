//! The weights of `matmul`, quantised and packed, or loaded as an earlier run packed them.
#![forbid(unsafe_code)]

use super::pack_cache::{Kept, Outcome};
use super::{Args, Places};
use crate::cli::arguments::HOST;
use crate::cli::device::{self, Device};
use crate::cli::machine;
use crate::cli::npu;
use crate::cli::progress::Progress;
use crate::cli::refusal::{option, refusal};
use crate::cli::stored::Stored;
use crate::cli::tensors::Tensor;
use anyhow::Result;
use mixgemm::kernel::catalogue;
use mixgemm::outlier::calibration::LayerCalibration;
use mixgemm::outlier::treatment::Treatment;
use mixgemm::{Error, Host, Mat, Mode, QuantMatrix};
use std::num::NonZeroUsize;

/// Weights ready to be multiplied by.
pub(super) struct Prepared {
    pub(super) device: Device,
    /// Those that were quantised; packed weights from a file need not be.
    pub(super) quantized: Option<QuantMatrix>,
    pub(super) cache: Option<Outcome>,
}

impl Prepared {
    /// Quantises and packs, or loads what an earlier run packed.
    pub(super) fn new(
        args: &Args,
        places: &Places,
        (stored, weights): (&Stored, &Tensor),
        threads: NonZeroUsize,
        (mode, treatment, calibrated): (Mode, &Treatment, Option<&LayerCalibration>),
        progress: &Progress,
    ) -> Result<Self> {
        let quantized = || {
            progress.step("quantising");
            weights.quantize(args.scheme()).map_err(|error| match error {
                Error::Value {
                    argument: "scales",
                    expected,
                    found,
                } => refusal("--scale-type", expected, found),
                error => option(error),
            })
        };
        if args.backend != HOST || *treatment != Treatment::None {
            let w = quantized()?;
            progress.step("preparing");
            let par = device::rayon(threads);
            let named = (args.backend.as_str(), mode);
            let backend = npu::backend(named, args.profile.as_deref(), args.fast, args.isa.parse().ok(), &par)?;
            let floats = args.splitting.takes_floats().then(|| weights.to_f32());
            let both = (&w, floats.as_ref().map(Mat::view));
            let device = args.splitting.around(both, treatment, calibrated, backend, &par)?;
            return Ok(Self {
                device: device.map_err(option)?,
                quantized: Some(w),
                cache: None,
            });
        }
        let isa = args.isa.parse().map_or_else(|_| machine::best_isa(), Ok)?;
        let host = Host::new().isa(isa).map_err(option)?.par(device::rayon(threads));
        let scheme = args.scheme();
        let cache = match (
            &places.cache,
            catalogue::layout(isa, scheme.bits, scheme.book.is_some()),
        ) {
            (Some(place), Some(layout)) => Some(place.of(&stored.view()?, &scheme, layout.lanes)?),
            _ => None,
        };
        let kept = cache.as_ref().map_or(Ok(Kept::Nothing), |cache| cache.load(&host))?;
        let (gemm, w) = if let Kept::Weights(gemm) = &kept {
            let w = args.save_quantized.then(quantized).transpose()?;
            (gemm.as_ref().clone(), w)
        } else {
            let w = quantized()?;
            progress.step("preparing");
            let packed = host.prepare_with(&w, &|done, all| progress.part("preparing", done, all));
            (packed.map_err(option)?, Some(w))
        };
        Ok(Self {
            cache: cache.map(|cache| cache.keep(&gemm, kept)).transpose()?,
            device: Device::packed(gemm),
            quantized: w,
        })
    }
}
