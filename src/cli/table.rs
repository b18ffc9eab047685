//! How numbers and tables look on a terminal.
#![forbid(unsafe_code)]

use crate::cli::arguments::{FormatName, group_name, spelled};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use mixgemm::{Group, Scheme, ZeroPoint};

/// A table with these column heads. Columns from `numbers_from` on are aligned to the right.
pub(crate) fn columns(heads: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.to_vec());
    table.set_content_arrangement(ContentArrangement::Disabled);
    for (i, column) in table.column_iter_mut().enumerate() {
        let number = i >= numbers_from;
        column.set_padding((u16::from(i == 0) * 2, if number { 1 } else { 2 }));
        if number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three significant digits and a unit.
pub(crate) fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Bits or format, group and zero point in words.
pub(crate) fn scheme(scheme: &Scheme) -> String {
    let group = match scheme.group {
        Group::Length(_) => format!("group {}", group_name(scheme.group)),
        Group::Channel => "one group per channel".into(),
        Group::Tensor => "one group".into(),
    };
    if let Some(format) = FormatName::of(scheme) {
        return format!("{}, {group}", spelled(format));
    }
    let zero = match scheme.zero {
        ZeroPoint::Symmetric => "symmetric",
        _ => "asymmetric",
    };
    let plural = if scheme.bits == 1 { "" } else { "s" };
    format!("{} bit{plural}, {group}, {zero}", scheme.bits)
}

/// A number of threads in words.
pub(crate) fn threads(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// A share.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// A level in dB.
pub(crate) fn decibels(level: f64) -> String {
    if level == f64::INFINITY {
        "exact".into()
    } else {
        format!("{level:.1}")
    }
}

/// Energy in three or four digits.
pub(crate) fn joules(pj: f64) -> String {
    match pj {
        e if e < 1e3 => format!("{e:.1} pJ"),
        e if e < 1e6 => format!("{:.2} nJ", e / 1e3),
        e if e < 1e9 => format!("{:.2} uJ", e / 1e6),
        e if e < 1e12 => format!("{:.2} mJ", e / 1e9),
        e => format!("{:.2} J", e / 1e12),
    }
}

/// Bits as bytes, with a unit.
pub(crate) fn bytes(bits: f64) -> String {
    let bytes = bits / 8.0;
    match bytes {
        b if b < 1e4 => format!("{b:.0} B"),
        b if b < 1e7 => format!("{:.1} kB", b / 1e3),
        b if b < 1e10 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        assert_eq!(time(0.001_234_5), "1.23 ms");
        assert_eq!(time(0.012_345), "12.3 ms");
        assert_eq!(time(0.000_123_45), "123 us");
        assert_eq!(time(2.0), "2.00 s");
    }
}
