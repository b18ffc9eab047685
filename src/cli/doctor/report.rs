//! What the doctor says: tables for people, JSON for programs.
#![forbid(unsafe_code)]

use super::check::Checked;
use super::choices::{self, Class, ROWS};
use super::roofs::Roofs;
use super::system::System;
use crate::cli::machine::Machine;
use crate::cli::table;
use mixgemm::Isa;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A tier of this program.
#[derive(Debug, Serialize)]
pub(super) struct Tier {
    isa: &'static str,
    supported: bool,
    chosen: bool,
    /// Why it is chosen.
    why: Option<String>,
    /// Rows of the catalogue.
    kernels: usize,
}

impl Tier {
    /// Every tier that is compiled in, slowest first.
    pub(super) fn all() -> anyhow::Result<Vec<Self>> {
        let (chosen, why) = choices::tier()?;
        let tiers = Isa::ALL.into_iter().map(|isa| Self {
            isa: isa.name(),
            supported: isa.supported(),
            chosen: isa == chosen,
            why: (isa == chosen).then(|| why.clone()),
            kernels: mixgemm::kernel::catalogue::kernels().filter(|k| k.isa == isa).count(),
        });
        Ok(tiers.filter(|tier| tier.kernels > 0).collect())
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) machine: Machine,
    pub(super) system: System,
    pub(super) tiers: Vec<Tier>,
    pub(super) roofs: Roofs,
    pub(super) classes: Vec<Class>,
    pub(super) checks: Vec<Checked>,
}

/// The width of codes, and whether they are those of a book.
fn codes(bits: u8, book: bool) -> String {
    if book {
        format!("{bits}, book")
    } else {
        bits.to_string()
    }
}

/// A fact, or that it is unknown.
fn known<T: ToString>(fact: Option<T>) -> String {
    fact.map_or_else(|| "unknown".into(), |fact| fact.to_string())
}

/// Bytes in the largest unit that leaves at least one.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) if bytes.is_multiple_of(1 << shift) => format!("{} {unit}", bytes >> shift),
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1 << shift)),
        None => format!("{bytes} bytes"),
    }
}

impl Findings {
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "mixgemm doctor on {}", self.machine)?;
        self.print_machine(out)?;
        self.print_tiers(out)?;
        self.print_classes(out)?;
        self.print_checks(out)
    }

    fn print_machine(&self, out: &mut impl Write) -> io::Result<()> {
        let (machine, system) = (&self.machine, &self.system);
        let mut table = table::columns(&["", ""], 2);
        let mut line = |name: &str, fact: String| {
            table.add_row([name.to_owned(), fact]);
        };
        line(
            "processor",
            format!("{} ({})", machine.cpu, known(machine.cpu_family.as_deref())),
        );
        line("threads", machine.threads.to_string());
        line("system", format!("{}, {}", machine.os, machine.arch));
        if system.caches.is_empty() {
            line("caches", known(None::<&str>));
        }
        for cache in &system.caches {
            let name = format!("L{} {}", cache.level, cache.kind.to_lowercase());
            line(
                &name,
                format!(
                    "{}, shared by threads {}",
                    size(cache.bytes),
                    known(cache.shared_by.as_deref())
                ),
            );
        }
        let free = known(system.available_memory.map(size));
        line(
            "memory",
            format!("{}, {free} available", known(machine.memory.map(size))),
        );
        line("page", known(system.page.map(size)));
        let huge = format!(
            "{}, transparent: {}",
            known(system.huge_page.map(size)),
            known(machine.huge_pages.as_deref())
        );
        line("huge page", huge);
        let got = known(system.allocation_on_huge_pages.map(size));
        line(
            "weights get",
            format!("{got} of {} on huge pages", size(system.allocation)),
        );
        let debug = if machine.debug_build {
            ", WITHOUT OPTIMISATION"
        } else {
            ""
        };
        line(
            "program",
            format!("{} at commit {}{debug}", machine.version, machine.commit),
        );
        line("built by", format!("{} for {}", machine.rustc, machine.target));
        // The first line is that of the empty heads.
        let text = table.trim_fmt();
        writeln!(
            out,
            "\n{}",
            text.split_once('\n').map_or(text.as_str(), |(_, facts)| facts)
        )
    }

    fn print_tiers(&self, out: &mut impl Write) -> io::Result<()> {
        let heads = ["tier", "here", "kernels", "threads", "integer GOPS", "f32 GFLOPS"];
        let mut table = table::columns(&heads, 2);
        for tier in &self.tiers {
            let mut first = [tier.isa.to_owned(), "no".into(), tier.kernels.to_string()];
            if tier.supported {
                first[1] = tier
                    .why
                    .as_ref()
                    .map_or_else(|| "yes".into(), |why| format!("chosen: {why}"));
            }
            let own: Vec<_> = self.roofs.peaks.iter().filter(|p| p.isa == tier.isa).collect();
            if own.is_empty() {
                table.add_row(first.iter().map(String::as_str).chain(["-", "-", "-"]));
            }
            for (i, peak) in own.into_iter().enumerate() {
                let figures = [
                    peak.threads.to_string(),
                    format!("{:.0}", peak.integer_gops),
                    format!("{:.0}", peak.f32_gflops),
                ];
                let first = if i == 0 { first.clone() } else { Default::default() };
                table.add_row(first.into_iter().chain(figures));
            }
        }
        writeln!(out, "\n{}\n", table.trim_fmt())?;
        for dram in &self.roofs.dram {
            let plural = if dram.threads == 1 { "" } else { "s" };
            writeln!(out, "  DRAM on {} thread{plural}: {:.1} GB/s", dram.threads, dram.gbps)?;
        }
        Ok(())
    }

    fn print_classes(&self, out: &mut impl Write) -> io::Result<()> {
        let heads = ["bits", "mode"].map(String::from).into_iter();
        let heads: Vec<String> = heads.chain(ROWS.map(|m| format!("kernel for M = {m}"))).collect();
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let mut table = table::columns(&heads, heads.len());
        for class in &self.classes {
            let first = [codes(class.bits, class.book), class.mode.to_owned()];
            table.add_row(first.into_iter().chain(class.kernels.map(String::from)));
        }
        writeln!(out, "\n{}", table.trim_fmt())
    }

    fn print_checks(&self, out: &mut impl Write) -> io::Result<()> {
        let mut groups: BTreeMap<_, Vec<&Checked>> = BTreeMap::new();
        for checked in &self.checks {
            let key = (checked.row.isa, checked.row.layout.book, checked.row.layout.bits);
            groups.entry(key).or_default().push(checked);
        }
        let heads = ["tier", "bits", "kernels", "values compared", "calls", "result"];
        let mut table = table::columns(&heads, 1);
        for ((isa, book, bits), rows) in groups {
            let failed = rows.iter().filter(|c| !c.pass).count();
            table.add_row([
                isa.name().to_owned(),
                codes(bits, book),
                rows.len().to_string(),
                rows.iter().map(|c| c.checks).sum::<usize>().to_string(),
                rows.iter().map(|c| c.calls).sum::<u64>().to_string(),
                if failed == 0 {
                    "PASS".into()
                } else {
                    format!("{failed} FAIL")
                },
            ]);
        }
        writeln!(out, "\n{}\n", table.trim_fmt())?;
        for checked in &self.checks {
            if let Some(fault) = &checked.fault {
                writeln!(out, "DEFECT: {}: {fault}", checked.kernel)?;
            }
        }
        let failed = self.checks.iter().filter(|c| !c.pass).count();
        match failed {
            0 => writeln!(
                out,
                "All {} kernels that run here have the bits of the reference.",
                self.checks.len()
            ),
            _ => writeln!(
                out,
                "{failed} of {} kernels do not have the bits of the reference.",
                self.checks.len()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_largest_unit() {
        assert_eq!(size(32 << 10), "32 KiB");
        assert_eq!(size(36_608 << 10), "35.8 MiB");
        assert_eq!((size(3 << 30), size(12)), ("3 GiB".into(), "12 bytes".into()));
        assert_eq!(known(None::<u8>), "unknown");
    }
}
