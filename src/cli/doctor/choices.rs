//! Which kernels products would take here, and why.
#![forbid(unsafe_code)]

use crate::cli::arguments::{self, ModeName};
use crate::cli::refusal::{option, refusal};
use anyhow::Result;
use mixgemm::host::explain::{Explanation, Reason};
use mixgemm::{Floats, Group, Host, Isa, Mode, Par, QuantMatrix, Scheme, Zeros};
use serde::Serialize;
use serde_json::{Value, json};
use std::num::NonZeroUsize;

/// The product to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Problem {
    /// Explain what a product with weights of this shape, output x input channels, would do here, and nothing else
    #[arg(long, value_name = "NxK", value_parser = arguments::shape)]
    pub(super) explain: Option<(usize, usize)>,
    /// Activation rows
    #[arg(long, default_value = "1", requires = "explain", value_parser = arguments::count)]
    m: NonZeroUsize,
    /// Bits per weight, 1 to 8
    #[arg(long, default_value = "4", requires = "explain", value_parser = arguments::bits)]
    bits: u8,
    /// Weights along K that share a scale: a number, channel (a row of W) or tensor (all of W)
    #[arg(long, default_value = "128", requires = "explain", value_parser = arguments::group)]
    group: Group,
    /// How activations become integers
    #[arg(long, value_enum, default_value = "a16", requires = "explain")]
    mode: ModeName,
    /// Threads
    #[arg(long, value_name = "T", default_value = "1", requires = "explain", value_parser = arguments::threads)]
    threads: NonZeroUsize,
    /// Instruction-set tier
    #[arg(long, default_value = "auto", requires = "explain", value_parser = arguments::isa_names())]
    isa: String,
}

/// Most weights of a shape to explain: they are packed for it.
const MOST: usize = 1 << 30;

impl Problem {
    /// The explanation for weights of this shape.
    pub(super) fn explained(&self, (n, k): (usize, usize)) -> Result<Explanation> {
        if n.checked_mul(k).is_none_or(|weights| weights > MOST) {
            return Err(refusal(
                "--explain",
                format_args!("at most {MOST} weights"),
                format_args!("{n}x{k}"),
            ));
        }
        let scheme = Scheme {
            group: self.group,
            ..Scheme::int(self.bits)
        };
        let host = match self.isa.parse::<Isa>() {
            Ok(isa) => Host::new().isa(isa).map_err(option)?,
            Err(_) => Host::new(),
        };
        let gemm = host.prepare(&blank(scheme, n, k)?).map_err(option)?;
        let par = if self.threads.get() == 1 {
            Par::Seq
        } else {
            Par::Rayon(self.threads)
        };
        Ok(gemm
            .plan(mode(self.mode))
            .map_err(option)?
            .par(par)
            .explain(self.m.get()))
    }
}

/// The mode of a name; its scale, where it has one, decides nothing here.
fn mode(name: ModeName) -> Mode {
    match name {
        ModeName::A8 => Mode::A8,
        ModeName::A8Row => Mode::A8Row,
        ModeName::A8Given => Mode::A8Given,
        ModeName::A8Static => Mode::A8Static {
            scale: 1.0,
            saturate: true,
        },
        ModeName::A16 => Mode::A16,
        ModeName::Exact => Mode::Exact,
    }
}

/// Weights of zeros: layout and selection do not depend on values.
fn blank(scheme: Scheme, n: usize, k: usize) -> Result<QuantMatrix> {
    let scales = match scheme.group {
        Group::Tensor => 1,
        _ => n * scheme.groups(k),
    };
    let scales = Floats::from_f32(scheme.scale, &vec![1.0; scales]);
    QuantMatrix::from_parts(scheme, n, k, vec![0; n * k], scales, Zeros::Symmetric).map_err(option)
}

/// An explanation for programs.
pub(super) fn json(e: &Explanation) -> Value {
    let tiles = e.tiles.iter().map(|t| json!({ "height": t.height, "count": t.count }));
    let taken = e.taken.iter().map(|t| {
        let width = format!("{:?}", t.width).to_lowercase();
        json!({ "height": t.height, "slices": t.slices, "kernel": t.kernel.name(), "fold": width })
    });
    let passed_over = e.passed_over.iter().map(|(kernel, reason)| {
        let (reason, left) = match reason {
            Reason::OtherTier => ("other tier", None),
            Reason::OtherSlices => ("other slice count", None),
            Reason::NotPreferred => ("others preferred", None),
            Reason::TooHigh { left } => ("too high", Some(left)),
            Reason::NoMultiple => ("divides no tile", None),
            Reason::Lower => ("a higher one divides", None),
            _ => ("unknown", None),
        };
        json!({ "kernel": kernel.name(), "reason": reason, "rows_left": left })
    });
    json!({
        "isa": e.isa.name(),
        "choice": e.choice.to_string(),
        "mode": e.mode.name(),
        "m": e.m,
        "n": e.layout.n,
        "k": e.k,
        "bits": e.layout.panel.bits,
        "group": e.group,
        "panels": e.panels,
        "panel_columns": e.layout.panel.nr(),
        "threads": e.threads,
        "rectangles": e.rectangles,
        "tiles": tiles.collect::<Vec<_>>(),
        "taken": taken.collect::<Vec<_>>(),
        "passed_over": passed_over.collect::<Vec<_>>(),
    })
}

/// Numbers of rows that stand for classes of problems: one token, few, many.
pub(super) const ROWS: [usize; 3] = [1, 8, 256];

/// The kernels that do most of the work of a class of problems.
#[derive(Debug, Serialize)]
pub(super) struct Class {
    pub(super) bits: u8,
    pub(super) mode: &'static str,
    /// For each of [`ROWS`].
    pub(super) kernels: [&'static str; 3],
}

/// Every width with every number of slices, on the tier that `auto` means.
pub(super) fn classes() -> Result<Vec<Class>> {
    let mut classes = Vec::new();
    for bits in 1..=8 {
        let gemm = Host::new()
            .prepare(&blank(Scheme::int(bits).group(32), 64, 64)?)
            .map_err(option)?;
        for mode in [Mode::A8, Mode::A16, Mode::Exact] {
            let plan = gemm.plan(mode).map_err(option)?;
            classes.push(Class {
                bits,
                mode: mode.name(),
                kernels: ROWS.map(|m| plan.kernel(m)),
            });
        }
    }
    Ok(classes)
}

/// Why the tier of [`classes`] is the one.
pub(super) fn tier() -> Result<(Isa, String)> {
    let gemm = Host::new().prepare(&blank(Scheme::int(4), 1, 1)?).map_err(option)?;
    let explanation = gemm.plan(Mode::A8).map_err(option)?.explain(1);
    Ok((explanation.isa, explanation.choice.to_string()))
}
