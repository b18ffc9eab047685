//! The NPU of llm.npu (arXiv 2407.05858) with the latency model `hexagon-8gen3`; see [`npu`](crate::accel::npu).
#![forbid(unsafe_code)]

use crate::accel::catalogue::Accelerator;
use crate::accel::npu::Npu;
use crate::accel::npu::grouped::Grouped;
use crate::accel::npu::profile::Profile;
use alloc::boxed::Box;

/// [`int8`]. What it costs is the latency of its profile; of its parts nothing is published.
pub const INT8: Accelerator =
    Accelerator::without_cost(|| Box::new(int8())).exact(|values| int8().with_values_from(values));

/// [`grouped`], with the same latency model.
pub const GROUPED: Accelerator =
    Accelerator::without_cost(|| Box::new(grouped())).exact(|values| grouped().with_values_from(values));

/// Symmetric int8 weights and activations with one scale each: the modes `a8given` and `a8static`.
///
/// ```
/// use mixgemm::accel::catalogue::npu;
/// use mixgemm::{Backend, Mat, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 64, |n, k| (n + k) as f32).view(), Scheme::int(8).group(32))?;
/// let error = npu::int8().prepare(&w).unwrap_err().to_string();
/// assert_eq!(error, "group: expected one scale for the whole matrix, found a scale for every 32 weights of a row");
/// assert!(npu::grouped().prepare(&w).is_ok());
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[must_use]
pub fn int8() -> Npu {
    Npu::new(Profile::hexagon_8gen3().clone())
}

/// The same NPU under weights with scales by group or row and zero points of any kind: one product for every group, and
/// float sums on the host; `npu+groups` in the catalogue, as another answer than `npu` must be asked for by name. The modes `a8`, `a8row`, `a8given` and `a8static`.
#[must_use]
pub fn grouped() -> Grouped {
    Grouped::new(int8())
}
