//! The colour of a device: the same in every drawing, whatever else is in it.
#![forbid(unsafe_code)]

use plotters::style::RGBColor;

/// Colours of families of devices, by the start of their names; the longest that fits counts. Chosen after Okabe and Ito
/// (Color Universal Design, 2008), which colour-blind readers tell apart, with darker ones beyond their eight.
const FAMILIES: [(&str, RGBColor); 15] = [
    ("fp16", RGBColor(120, 120, 120)),
    ("tpu-int8", RGBColor(0, 158, 115)),
    ("mixpe-w4a8", RGBColor(0, 114, 178)),
    ("mixpe-w4a16", RGBColor(213, 94, 0)),
    ("dequant-w4a16", RGBColor(204, 121, 167)),
    ("dequant-w4a8", RGBColor(110, 70, 150)),
    ("qserve", RGBColor(230, 159, 0)),
    ("lut-gemm", RGBColor(86, 180, 233)),
    ("tmac", RGBColor(178, 165, 0)),
    ("t-mac", RGBColor(178, 165, 0)),
    ("lut-tensor", RGBColor(0, 80, 80)),
    ("bitfusion", RGBColor(120, 60, 20)),
    ("olaccel", RGBColor(70, 40, 120)),
    ("ant", RGBColor(160, 20, 40)),
    ("olive", RGBColor(90, 120, 20)),
];
/// Colours of devices of no family.
const OTHERS: [RGBColor; 4] = [
    RGBColor(40, 40, 40),
    RGBColor(140, 100, 180),
    RGBColor(60, 140, 60),
    RGBColor(200, 60, 120),
];

/// The colour of the device of this name. What a name has behind its family's makes it paler.
pub(super) fn of_device(name: &str) -> RGBColor {
    let sum = |text: &str| {
        text.bytes()
            .fold(0usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte))
    };
    let family = FAMILIES.iter().filter(|(start, _)| name.starts_with(start));
    let Some((start, RGBColor(r, g, b))) = family.max_by_key(|(start, _)| start.len()) else {
        return OTHERS[sum(name) % OTHERS.len()];
    };
    let rest = &name[start.len()..];
    let share = if rest.is_empty() { 0 } else { 20 + sum(rest) % 47 };
    let pale = |c: &u8| (usize::from(*c) + (255 - usize::from(*c)) * share / 100) as u8;
    RGBColor(pale(r), pale(g), pale(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mixgemm::accel::hardware::Hardware;
    use std::collections::BTreeSet;

    #[test]
    fn devices_of_the_catalogue_differ() {
        let all = Hardware::catalogue();
        let colours: BTreeSet<_> = all
            .iter()
            .map(|device| of_device(&device.name))
            .map(|c| (c.0, c.1, c.2))
            .collect();
        assert_eq!(colours.len(), all.len());
        assert_eq!(of_device("mixpe-w4a8"), RGBColor(0, 114, 178));
        assert!(of_device("abacus") != of_device("mixpe-w4a16-naive"));
    }
}
