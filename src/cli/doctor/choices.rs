//! Which kernels products would take here, and why.
#![forbid(unsafe_code)]

use crate::cli::arguments::{self, FormatName, MXFP4_GROUP, ModeName};
use crate::cli::machine;
use crate::cli::refusal::{option, refusal};
use anyhow::Result;
use mixgemm::host::explain::{Explanation, Reason};
use mixgemm::kernel::catalogue;
use mixgemm::pack::layout::{WeightLayout, ZeroLayout, unit};
use mixgemm::{CodeBook, Floats, Group, Host, Isa, Mode, Par, QuantMatrix, Scheme, Zeros};
use serde::Serialize;
use serde_json::{Value, json};
use std::num::NonZeroUsize;

/// The product to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Problem {
    /// Explain what a product with weights of this shape, output x input channels, would do here, and nothing else
    #[arg(long, value_name = "NxK", value_parser = arguments::shape)]
    explain: Option<(usize, usize)>,
    /// Activation rows [default: 1]
    #[arg(long, value_parser = arguments::count)]
    m: Option<NonZeroUsize>,
    /// Bits per weight, 1 to 8 [default: 4]
    #[arg(long, value_parser = arguments::bits)]
    bits: Option<u8>,
    /// A code book instead of plain codes
    #[arg(long, value_enum, conflicts_with = "bits")]
    format: Option<FormatName>,
    /// Weights along K that share a scale: a number, channel (a row of W) or tensor (all of W) [default: 128, or 32
    /// with --format mxfp4]
    #[arg(long, value_parser = arguments::group, default_value_if("format", "mxfp4", MXFP4_GROUP))]
    group: Option<Group>,
    /// How activations become integers [default: a16]
    #[arg(long, value_enum)]
    mode: Option<ModeName>,
    /// Threads [default: 1]
    #[arg(long, value_name = "T", value_parser = arguments::threads)]
    threads: Option<NonZeroUsize>,
    /// Instruction-set tier [default: auto]
    #[arg(long, value_parser = arguments::isa_names())]
    isa: Option<String>,
}

/// Most bytes of weights to explain, as they are made and packed for it: 1 GiB.
const MOST: usize = 1 << 30;

impl Problem {
    /// The explanation, where one is asked for.
    pub(super) fn explained(&self) -> Result<Option<Explanation>> {
        let Some((n, k)) = self.explain else {
            return match self.given() {
                Some(name) => Err(refusal(name, "--explain NxK beside it", "none")),
                None => Ok(None),
            };
        };
        let scheme = Scheme {
            group: self.group.unwrap_or(Group::Length(128)),
            ..FormatName::scheme(self.format, self.bits.unwrap_or(4))
        };
        let (host, isa) = match self.isa.as_deref().unwrap_or("auto").parse::<Isa>() {
            Ok(isa) => (Host::new().isa(isa).map_err(option)?, isa),
            Err(_) => (Host::new(), machine::best_isa()?),
        };
        if bytes(scheme, (n, k), isa).is_none_or(|bytes| bytes > MOST) {
            let (bits, group) = (scheme.bits, arguments::group_name(scheme.group));
            return Err(refusal(
                "--explain",
                "weights of at most 1 GiB, codes and panels together",
                format_args!("{n}x{k} (bits {bits}, group {group})"),
            ));
        }
        let gemm = host.prepare(&blank(scheme, n, k)?).map_err(option)?;
        let par = match self.threads {
            Some(threads) if threads.get() > 1 => Par::Rayon(threads),
            _ => Par::Seq,
        };
        let plan = gemm.plan(mode(self.mode.unwrap_or(ModeName::A16))).map_err(option)?;
        Ok(Some(plan.par(par).explain(self.m.map_or(1, NonZeroUsize::get))))
    }

    /// An option that says more about the product to explain.
    fn given(&self) -> Option<&'static str> {
        let options = [
            ("--m", self.m.is_some()),
            ("--bits", self.bits.is_some()),
            ("--format", self.format.is_some()),
            ("--group", self.group.is_some()),
            ("--mode", self.mode.is_some()),
            ("--threads", self.threads.is_some()),
            ("--isa", self.isa.is_some()),
        ];
        options.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Bytes of [`blank`] weights and of their panels; `None` where the codes alone are too many, or the tier has no kernel.
fn bytes(scheme: Scheme, (n, k): (usize, usize), isa: Isa) -> Option<usize> {
    let codes = n.checked_mul(k).filter(|&codes| codes <= MOST)?;
    let panel = catalogue::layout(isa, scheme.bits, scheme.book.is_some())?;
    let units = scheme.group_length(k).div_ceil(unit(scheme.bits));
    let layout = WeightLayout {
        panel,
        scale: scheme.scale,
        zero: ZeroLayout::None,
        n,
        groups: scheme.groups(k),
        units,
        last_units: units,
    };
    Some(codes + scales(scheme, n, k) * scheme.scale.bytes() + layout.bytes())
}

/// How many scales weights have.
fn scales(scheme: Scheme, n: usize, k: usize) -> usize {
    match scheme.group {
        Group::Tensor => 1,
        _ => n * scheme.groups(k),
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
        ModeName::Native => Mode::Native,
    }
}

/// Weights of zeros: layout and selection do not depend on values.
fn blank(scheme: Scheme, n: usize, k: usize) -> Result<QuantMatrix> {
    let scales = Floats::from_f32(scheme.scale, &vec![1.0; scales(scheme, n, k)]);
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
            Reason::Unsupported => ("not on this CPU", None),
            Reason::OtherSlices => ("other slice count", None),
            Reason::NotPreferred => ("others preferred", None),
            Reason::OnRequest => ("another rule is faster here", None),
            Reason::TooHigh { left } => ("too high", Some(left)),
            Reason::NoMultiple => ("no tile of this product has a multiple of its rows", None),
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
        "book": e.layout.panel.book,
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
    /// Whether codes are those of a book.
    pub(super) book: bool,
    pub(super) mode: &'static str,
    /// For each of [`ROWS`].
    pub(super) kernels: [&'static str; 3],
}

/// Every width, and books, with every number of slices, on the tier that `auto` means.
pub(super) fn classes() -> Result<Vec<Class>> {
    let mut classes = Vec::new();
    for scheme in (1..=8).map(Scheme::int).chain([Scheme::book(CodeBook::MXFP4)]) {
        let gemm = Host::new().prepare(&blank(scheme.group(32), 64, 64)?).map_err(option)?;
        for mode in [Mode::A8, Mode::A16, Mode::Exact] {
            let plan = gemm.plan(mode).map_err(option)?;
            classes.push(Class {
                bits: scheme.bits,
                book: scheme.book.is_some(),
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
