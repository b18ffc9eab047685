//! How far an accelerator that dequantises first is from one that scales after the group.
#![forbid(unsafe_code)]

use crate::cli::refusal::option;
use anyhow::Result;
use mixgemm::accel::catalogue::Accelerator;
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::dequantise::Position;
use mixgemm::{Activations, Epilogue, Figures, Host, Mat, MatRef, Mode, QuantMatrix};
use serde::Serialize;

/// The result of an accelerator that dequantises first, against that of scaling after the group, which rounds nothing
/// before a group's sum.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    pub(super) sqnr_db: f64,
    pub(super) worst_error: f64,
}

impl Difference {
    /// Of this result without epilogue; none for accelerators that do not dequantise first. This CPU scales after the group,
    /// with the bits of `mixpe-w4a16`.
    pub(super) fn of(
        accelerator: &Accelerator,
        w: &QuantMatrix,
        x: Activations<'_>,
        y: MatRef<'_, f32>,
    ) -> Result<Option<Self>> {
        let first = |hardware: Hardware| hardware.dequantisation.position == Position::Before;
        if !accelerator.hardware().is_ok_and(first) {
            return Ok(None);
        }
        let (host, mut after) = (Host::new(), Mat::zeros(y.rows(), y.cols()));
        let gemm = host.prepare(w).map_err(option)?;
        let out = after.view_mut().into();
        gemm.plan(Mode::Exact)
            .and_then(|plan| plan.run(&mut mixgemm::Workspace::new(), x, &Epilogue::new(), out))
            .map_err(option)?;
        let figures = Figures::of_f32(after.view(), y)?;
        Ok(Some(Self {
            sqnr_db: figures.sqnr_db,
            worst_error: figures.worst,
        }))
    }
}
