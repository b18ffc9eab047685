//! `mixgemm matmul`: the product on a user's own tensors.
#![forbid(unsafe_code)]

mod check;
mod difference;
mod metadata;
mod pack_cache;
mod prepared;
mod product;
mod report;

use crate::cli::arguments::{self, ActivationName, FormatName, HOST, MXFP4_GROUP, ModeName, ScaleName, TensorPath};
use crate::cli::cost::Costed;
use crate::cli::destination::Destination;
use crate::cli::device::{self, named};
use crate::cli::machine::{self, Machine};
use crate::cli::measure;
use crate::cli::npu;
use crate::cli::progress::Progress;
use crate::cli::refusal::{option, refusal};
use crate::cli::saved;
use crate::cli::split::{self, SplitArgs, SplitName};
use crate::cli::stored::Stored;
use crate::cli::tensors::{self, Tensor};
use crate::cli::truth;
use anyhow::Result;
use clap::builder::ArgPredicate;
use difference::Difference;
use mixgemm::backend::DeviceTime;
use mixgemm::outlier::calibration::LayerCalibration;
use mixgemm::quant::figures::product_f64;
use mixgemm::{Activation, Epilogue, Figures, Group, InputScale, Isa, Mat, Mode, Scheme, Workspace};
use pack_cache::Place;
use prepared::Prepared;
use product::{Product, Timed};
use report::Row;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Outputs and sides of one product stay below this: 4 GiB of f32.
const MOST_OUTPUTS: usize = 1 << 30;

/// Time for the repeats of a product that this CPU computes.
const BUDGET: Duration = Duration::from_millis(100);

/// Quantise and multiply your own tensors
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Y = X * W^T: quantises weights W [N,K] of a safetensors file, multiplies inputs X [M,K] with them, \
                  and writes `output` [M,N] as f32. Tensors are f32, f16, bf16 or i8.",
    after_help = "Modes: a8 and a8row are fast, a16 is the accurate default, exact takes f16 input and rounds every \
                  group's dot product once, a8given takes i8 input with --input-scale, a8static quantises with one \
                  scale of a --calibration or --input-scale; native takes f16 input in the floating point of an emulated accelerator.\n\n\
                  With --backend mixpe, a8* run on the W4A8 element, exact on the W4A16 element, and native on the one \
                  that rounds every product to f16; its other readings have names of their own. Without --mode an \
                  emulated backend takes the first of a8, exact, native and a8static that it has.\n\n\
                  With --save-quantized the output file also has `codes` U8 [N,K], `scales` and `zeros` F32 [N,G], \
                  and every weight is scale * (code - zero). With --format there are 16 `levels` I8 in place of \
                  `zeros`, and every weight is scale * levels[code].\n\n\
                  With --pack-cache, packed weights are loaded from the file when they were made from the same \
                  tensor and options by the same program, for a tier of the same lanes; else they are made and written. \
                  The report says which. A file that is no pack file is never replaced.\n\n\
                  Example, with the file that `demo` multiplies:\n  mixgemm matmul \\\n    \
                  --weights tests/data/minilm-layer4.safetensors:up.weight \\\n    \
                  --input tests/data/minilm-layer4.safetensors:up.input \\\n    \
                  --bias tests/data/minilm-layer4.safetensors:up.bias --activation gelu \\\n    \
                  --bits 4 --group 128 --asym --mode a16 --output up.safetensors --save-quantized"
)]
pub(crate) struct Args {
    /// Weights W [N,K], in the order of checkpoints: out x in
    #[arg(long, value_name = "FILE:TENSOR", value_parser = arguments::tensor_path)]
    weights: TensorPath,
    /// Inputs X [M,K]
    #[arg(long, value_name = "FILE:TENSOR", value_parser = arguments::tensor_path)]
    input: TensorPath,
    /// N values that are added to every row
    #[arg(long, value_name = "FILE:TENSOR", value_parser = arguments::tensor_path)]
    bias: Option<TensorPath>,
    /// Scale of int8 input (1 or M values, for a8given), or the calibrated scale (1 value, for a8static)
    #[arg(long, value_name = "FILE:TENSOR", value_parser = arguments::tensor_path)]
    input_scale: Option<TensorPath>,
    /// Scale and outlier channels that `mixgemm calibrate` found for these weights
    #[arg(long, value_name = "CAL.json", conflicts_with = "input_scale")]
    calibration: Option<PathBuf>,
    /// Bits per weight, 1 to 8
    #[arg(long, value_parser = arguments::bits, required_unless_present = "format")]
    bits: Option<u8>,
    /// A code book instead of plain codes
    #[arg(long, value_enum, conflicts_with_all = ["bits", "asym", "float_zero"])]
    format: Option<FormatName>,
    /// Weights along K that share a scale: a number, channel (a row of W) or tensor (all of W); 32 with --format mxfp4
    /// unless given
    #[arg(long, value_parser = arguments::group, default_value_if("format", "mxfp4", MXFP4_GROUP))]
    #[arg(required_unless_present = "format")]
    group: Option<Group>,
    /// Integer zero points instead of a symmetric scheme
    #[arg(long)]
    asym: bool,
    /// Float zero points instead of a symmetric scheme
    #[arg(long, conflicts_with = "asym")]
    float_zero: bool,
    /// Choose every scale by least squared error
    #[arg(long)]
    clip_search: bool,
    /// Stored width of scales and float zero points; with --format bf16 unless given
    #[arg(
        long,
        value_enum,
        default_value = "f16",
        default_value_if("format", ArgPredicate::IsPresent, "bf16")
    )]
    scale_type: ScaleName,
    /// How activations become integers; a16 unless given, and what the device is meant for with an emulated --backend
    #[arg(long, value_enum)]
    mode: Option<ModeName>,
    /// In a8static, clamp values beyond 127 scales instead of refusing them
    #[arg(long)]
    saturate: bool,
    #[command(flatten)]
    splitting: SplitArgs,
    /// Activation function after the bias
    #[arg(long, value_enum, default_value = "none")]
    activation: ActivationName,
    /// Who multiplies: this CPU, or an emulated accelerator, by its name or the beginning of it
    #[arg(long, default_value = HOST, value_parser = arguments::backend_names())]
    backend: String,
    /// Let this CPU compute the values of an emulated accelerator whose bits are the same
    #[arg(long)]
    fast: bool,
    /// Latency model of --backend npu or npu+groups, in place of the built-in one
    #[arg(long, value_name = "FILE.toml")]
    profile: Option<PathBuf>,
    /// Instruction-set tier of the host; the bits are the same on all
    #[arg(long, default_value = "auto", value_parser = arguments::isa_names())]
    isa: String,
    /// Threads; all by default
    #[arg(long, value_name = "T", value_parser = arguments::threads)]
    threads: Option<NonZeroUsize>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Also write codes, scales and zeros
    #[arg(long)]
    save_quantized: bool,
    /// Keep packed weights in this file, or in this directory, and load them where they fit instead of making them
    #[arg(long, value_name = "DIR|FILE")]
    pack_cache: Option<PathBuf>,
    /// Replace an existing output file
    #[arg(long)]
    force: bool,
}

/// The input scale of int8 input or of `a8static`.
fn scale<'a>(args: &Args, values: &'a [f32]) -> Result<InputScale<'a>> {
    match values {
        [one] => Ok(InputScale::Tensor(*one)),
        _ if args.mode_name() == ModeName::A8Static => Err(refusal(
            "--input-scale",
            "1 value in mode a8static",
            format_args!("{} values", values.len()),
        )),
        rows => Ok(InputScale::Rows(rows)),
    }
}

impl Args {
    /// The mode asked for, or that of the backend.
    fn mode_name(&self) -> ModeName {
        self.mode.unwrap_or_else(|| device::natural_mode(&self.backend))
    }

    fn scheme(&self) -> Scheme {
        let scheme = Scheme {
            group: self.group.unwrap_or(Group::Channel),
            ..FormatName::scheme(self.format, self.bits.unwrap_or(4))
        };
        let scheme = match (self.asym, self.float_zero) {
            (true, _) => scheme.asymmetric(),
            (_, true) => scheme.float_zero(),
            _ => scheme.symmetric(),
        };
        let scheme = scheme.scales(self.scale_type.into());
        if self.clip_search { scheme.clip_search() } else { scheme }
    }

    fn mode(&self, scale: InputScale<'_>, calibrated: Option<&LayerCalibration>) -> Mode {
        let scale = match (calibrated, scale) {
            (Some(layer), _) => layer.scale,
            (None, InputScale::Tensor(t)) => t,
            (None, InputScale::Rows(_)) => f32::NAN,
        };
        self.splitting.mode(self.mode_name(), scale, self.saturate, calibrated)
    }
}

/// Where results go.
struct Places {
    output: Destination,
    cache: Option<Place>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    args.check()?;
    let output = Destination::new("--output", &args.output, args.force)?;
    for (argument, read) in [("--calibration", &args.calibration), ("--profile", &args.profile)] {
        read.iter().try_for_each(|read| output.check_apart(argument, read))?;
    }
    let cache = args.pack_cache.as_deref().map(Place::new).transpose()?;
    if cache.as_ref().is_some_and(|cache| cache.is(&output)) {
        return Err(refusal("--pack-cache", "another file than --output", "the same"));
    }
    let places = Places { output, cache };
    let machine = Machine::here()?;
    let threads = arguments::threads_or_all(args.threads);
    let row = arguments::pool(threads)?.install(|| multiply(args, &places, threads))?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &serde_json::json!({ "machine": machine, "rows": [row] }))?;
        writeln!(out)?;
    } else {
        report::print(&machine, &row, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn multiply(args: &Args, places: &Places, threads: NonZeroUsize) -> Result<Row> {
    let progress = Progress::new(6);
    progress.step("reading");
    let stored = Stored::read("--weights", &args.weights.file, &args.weights.tensor)?;
    let weights = Tensor::new("--weights", &stored.view()?)?;
    let input = Tensor::read("--input", &args.input)?;
    let bias = args
        .bias
        .as_ref()
        .map(|path| tensors::read_values("--bias", path))
        .transpose()?;
    let scales = args
        .input_scale
        .as_ref()
        .map(|path| tensors::read_values("--input-scale", path))
        .transpose()?;
    let input_scale = scales
        .as_deref()
        .map_or(Ok(InputScale::Tensor(1.0)), |values| scale(args, values))?;

    let ((m, k_input), (n, k), scheme) = (input.shape(), weights.shape(), args.scheme());
    if k_input != k {
        let expected = format!("[M, {k}], as {} is [{n}, {k}]", args.weights.tensor);
        return Err(refusal("--input", expected, format_args!("[{m}, {k_input}]")));
    }
    let calibration = args.calibration.as_deref().map(|path| {
        let read = split::read("--calibration", path)?;
        let layer = read.layer(&args.weights.tensor, k).cloned();
        layer.map_err(|error| split::of_file("--calibration", path, error))
    });
    let calibrated = calibration.transpose()?;
    let mode = args.mode(input_scale, calibrated.as_ref());
    let treatment = args.splitting.treatment(mode, calibrated.as_ref())?;
    let x = input.activations(input_scale);
    x.check(mode, k, &scheme).map_err(option)?;
    let mut epilogue = Epilogue::new().activation(args.activation.into());
    epilogue.bias = bias.as_deref();
    epilogue.check(m, n).map_err(option)?;
    // A file of no bytes can name rows without end when they have no columns.
    if m.max(n).max(m.saturating_mul(n)) >= MOST_OUTPUTS {
        let expected = format!("fewer than {MOST_OUTPUTS} outputs");
        return Err(refusal("--input", expected, format_args!("{m} x {n}")));
    }

    let isa = args.isa.parse::<Isa>().ok();
    let prepared = Prepared::new(
        args,
        places,
        (&stored, &weights),
        threads,
        (mode, &treatment, calibrated.as_ref()),
        &progress,
    )?;
    drop(stored);
    let device = &prepared.device;
    progress.step("multiplying");
    let mut y = Mat::zeros(m, n);
    let budget = if device.emulated && !args.fast {
        Duration::ZERO
    } else {
        BUDGET
    };
    let product = Product {
        device,
        threads,
        x,
        mode,
        splitting: args.splitting,
        budget,
    };
    let mut workspace = Workspace::new();
    let timed = product.time(&mut workspace, &epilogue, &mut y);
    let Timed {
        seconds,
        report,
        outliers,
        spent,
    } = timed.map_err(option)?;

    let before = device.time().unwrap_or_default();
    device.release(m).map_err(option)?;
    let spent = spent.zip(device.time()).map(|(spent, after)| DeviceTime {
        free_ms: spent.free_ms + after.free_ms - before.free_ms,
        ..spent
    });
    let npu = npu::Section::of(device, spent, args.profile.as_deref(), (m, n, k), &scheme)?;
    progress.step("comparing with the f64 product");
    let mut exact = product_f64(input.to_f32().view(), weights.to_f32().view())?;
    if let Tensor::I8(_) = input {
        truth::scale_rows(&mut exact, input_scale);
    }
    let mut bare = None;
    if epilogue.bias.is_some() || epilogue.activation != Activation::Identity {
        let bare = bare.insert(Mat::zeros(m, n));
        let of_bare = product.run(&mut workspace, &Epilogue::new(), bare);
        of_bare.map_err(option)?;
    }
    let bare = bare.as_ref().unwrap_or(&y).view();
    let figures = Figures::between(exact.view(), bare)?;
    // Where outliers are split off, this CPU has a part in the product.
    let whole = device.emulated && args.splitting.split == SplitName::None;
    let accelerator = whole.then(|| device::accelerator(&args.backend, mode)).transpose()?;
    let after_the_group = match (accelerator, &prepared.quantized) {
        (Some(accelerator), Some(w)) => Difference::of(accelerator, w, x, bare)?,
        _ => None,
    };
    progress.step("writing");
    let quantized = prepared.quantized.as_ref().filter(|_| args.save_quantized);
    saved::save(&places.output, &y, quantized, &metadata::of(args))?;
    let priced = accelerator.filter(|accelerator| accelerator.cost_file().is_some());
    let cost = priced.map(|accelerator| Costed::new(accelerator, &scheme, mode, [m, n, k]));
    let isa_used = isa.map_or_else(machine::best_isa, Ok)?.name();
    Ok(Row {
        backend: device.name,
        kernel: report.kernel,
        isa: if device.emulated { "emulated" } else { isa_used },
        mode: mode.name(),
        n,
        k,
        m,
        bits: scheme.bits,
        group: scheme.group_length(k),
        asym: args.asym || args.float_zero,
        threads: threads.get(),
        emulated: device.emulated,
        seconds,
        gops: measure::operations(m, n, k) / seconds.max(1e-12) * 1e-9,
        bits_per_weight: device.bits_per_weight,
        sqnr_db: figures.sqnr_db,
        relative_error: figures.relative,
        worst_error: figures.worst,
        worst_at: figures.worst_at,
        counters: device.emulated.then(|| named(&report.counters)),
        npu,
        cost,
        after_the_group,
        output: args.output.display().to_string(),
        pack_cache: prepared.cache,
        outliers,
    })
}
