//! What the demo says: its tables and how to read them.
#![forbid(unsafe_code)]

use super::Row;
use crate::cli::table;
use anyhow::Result;
use std::io::Write;

pub(super) const INTRODUCTION: &str = "\
mixgemm demo: the feed-forward matrices of a real transformer layer (all-MiniLM-L6-v2, layer 4) are quantised and
multiplied with the f16 inputs they really saw, Y = X * W^T, on this CPU and on emulated accelerators.";

pub(super) const LEGEND: &str = "
How to read it
  mode      how inputs enter: 8 bits with a scale per row and group (a8), per row (a8row), fixed (a8static) or
            handed over as int8 (a8given: the integers of a8row); 16 bits (a16, the default); unrounded f16 (exact); f16 in an accelerator's own
            floating point (native)
  thr       threads
  GOPS      10^9 operations a second, 2 per multiply-add; the time of an emulated device says nothing
  of peak   share of this tier's integer peak on as many threads, sampled beside each of the row's own timings
            (above 100 %: something else ran on this machine while the peak was sampled)
  bits/w    bits per weight as multiplied from, scales, zero points and padding included
  SQNR      dB, higher is better. total: against the f64 product of the original f16 weights, so it shows the error of
            weights and inputs. kernel: against the f64 product of the quantised weights, so it shows the error of
            inputs and arithmetic alone
  worst     largest absolute error against the product of the original weights
  =ref      whether every output bit equals the scalar reference that defines the arithmetic; own: the accelerator's
            own roundings, which it does not define
  outliers  the last tables: activations beyond 127 times a scale that a thousandth of them exceeds. clamped: cut off;
            shadow: what clamping loses joins the integers; mixed: they stay floats. =ref there: of clamped, and of a
            device the bits of the host. The NPU's time is that of its latency model, without the host's part

Next
  mixgemm matmul --help                                  your own tensors
  mixgemm calibrate --help                               static scales for them
  mixgemm bench --shape 4096x4096 --m 1,256 --bits 4 --group 128 --asym --mode a8,a16,exact --threads 1
";

const HEADS: [&str; 12] = [
    "backend",
    "mode",
    "kernel",
    "thr",
    "time",
    "GOPS",
    "of peak",
    "bits/w",
    "SQNR\ntotal",
    "SQNR\nkernel",
    "worst\nerror",
    "=ref",
];

pub(super) fn print(out: &mut impl Write, title: &str, rows: &[Row]) -> Result<()> {
    let mut table = table::columns(&HEADS, 3);
    for row in rows {
        let or = |value: Option<String>, otherwise: &str| value.unwrap_or_else(|| otherwise.into());
        table.add_row([
            row.backend.to_string(),
            row.mode.to_string(),
            row.kernel.to_string(),
            row.threads.to_string(),
            if row.emulated {
                "emulated".into()
            } else {
                table::time(row.seconds)
            },
            or(row.gops.map(|gops| format!("{gops:.1}")), "-"),
            or(row.fraction_of_peak.map(table::percent), "-"),
            format!("{:.2}", row.bits_per_weight),
            table::decibels(row.sqnr_total_db),
            table::decibels(row.sqnr_kernel_db),
            format!("{:.2}", row.worst_error_total),
            match row.bits_equal_reference {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "own",
            }
            .to_string(),
        ]);
    }
    writeln!(out, "\n{title}\n{}", table.trim_fmt())?;
    out.flush()?;
    Ok(())
}
