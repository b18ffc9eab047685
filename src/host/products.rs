//! Several products on the same activations as one piece of work.
#![forbid(unsafe_code)]

use crate::backend::{Counters, Report};
use crate::base::error::Result;
use crate::epilogue::{Epilogue, Output};
use crate::host::gemm::Plan;
use crate::host::walk::walk;
use crate::host::workspace::Workspace;
use crate::quant::input::Activations;

/// Most products that threads are woken once for.
const TOGETHER: usize = 16;

/// One of several products on the same activations, for [`Plan::run_all`].
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights, the mode and the kernels.
    pub plan: &'a Plan,
    /// What happens to the sums.
    pub epilogue: Epilogue<'a>,
    /// The output, M × N of the plan's weights.
    pub y: Output<'a>,
}

impl<'a> Product<'a> {
    /// `Y = X · Wᵀ` for the weights of a plan.
    pub fn new(plan: &'a Plan, y: impl Into<Output<'a>>) -> Self {
        Self {
            plan,
            epilogue: Epilogue::new(),
            y: y.into(),
        }
    }

    /// With an epilogue.
    #[must_use]
    pub fn epilogue(self, epilogue: Epilogue<'a>) -> Self {
        Self { epilogue, ..self }
    }
}

impl Plan {
    /// `Y = epilogue(X · Wᵀ)` for several weights and the same activations: the projections to queries, keys and values,
    /// or gate and up. The outputs hold the same bits as after one [`Plan::run`] each, in less time:
    ///
    /// * activations become integers once for all plans of one mode whose weights agree in bits, group and symmetry;
    /// * threads are woken once (for every 16 products), and go on to the next output without waiting for each other.
    ///
    /// The threads are those of the first product's plan.
    ///
    /// ```
    /// use mixgemm::{Activation, Epilogue, Host, Mat, Mode, Plan, Product, QuantMatrix, Scheme, Workspace};
    /// let host = Host::new();
    /// let plan = |n: usize| -> mixgemm::Result<Plan> {
    ///     let w = Mat::from_fn(n, 64, |n, k| ((n * k) % 7) as f32 - 3.0);
    ///     host.prepare(&QuantMatrix::quantize(w.view(), Scheme::int(4).group(32))?)?.plan(Mode::A8)
    /// };
    /// let (gate, up) = (plan(96)?, plan(96)?);
    /// let (mut gated, mut lifted) = (Mat::<f32>::zeros(1, 96), Mat::<f32>::zeros(1, 96));
    /// let x = Mat::from_fn(1, 64, |_, k| k as f32 * 0.1);
    /// let silu = Epilogue::new().activation(Activation::Silu);
    /// Plan::run_all(
    ///     &mut Workspace::new(),
    ///     x.view().into(),
    ///     &mut [
    ///         Product::new(&gate, gated.view_mut()).epilogue(silu),
    ///         Product::new(&up, lifted.view_mut()),
    ///     ],
    /// )?;
    /// # let mut alone = Mat::<f32>::zeros(1, 96);
    /// # gate.run(&mut Workspace::new(), x.view().into(), &silu, alone.view_mut().into())?;
    /// # assert_eq!(alone, gated);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// The report names the kernel of the product with the most outputs, and counts all of them.
    ///
    /// # Errors
    /// As [`Backend::run`](crate::Backend::run) for each product; what was found then says which, counting from 0.
    /// The outputs are unspecified after an error.
    pub fn run_all(workspace: &mut Workspace, x: Activations<'_>, products: &mut [Product<'_>]) -> Result<Report> {
        let mut report = Report {
            kernel: "",
            counters: Counters::default(),
        };
        let Some(first) = products.first() else {
            return Ok(report);
        };
        let (team, mut most) = (first.plan.par.team(), 0);
        for (chunk, products) in products.chunks_mut(TOGETHER).enumerate() {
            let mut parts = [const { None }; TOGETHER];
            for (i, (part, product)) in parts.iter_mut().zip(products).enumerate() {
                let Product { plan, epilogue, y } = product;
                let made = plan.part(x, epilogue, y.reborrow(), team.threads());
                *part = made.map_err(|error| error.at(format_args!("in product {}", chunk * TOGETHER + i)))?;
                let own = plan.report(x);
                report.counters.macs += own.counters.macs;
                if report.kernel.is_empty() || own.counters.macs > most {
                    (report.kernel, most) = (own.kernel, own.counters.macs);
                }
            }
            walk(&parts, workspace, team)?;
        }
        Ok(report)
    }
}
