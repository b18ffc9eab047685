//! The rows that are kept of a table.

use crate::toml;
use mixgemm::dse::kept::Kept;
use mixgemm::dse::outcome::{Outcome, Row};
use mixgemm::dse::pareto::Tolerance;
use mixgemm::dse::space::{Point, Space};
use mixgemm::dse::view::{best_at_one_peak, cell, frontiers};

/// Whatever was thrown away on the way, frontiers, the best of devices, and the first row of every cell are the same.
#[test]
fn kept_rows_have_all_that_drawings_need() {
    let space = Space::from_toml(&toml()).unwrap();
    let rows: Vec<Row> = (0..space.len()).map(|id| tangled(&space.point(id).unwrap())).collect();
    let view = |rows: &[Row]| -> Vec<(Vec<u64>, Vec<u64>, Vec<u64>)> {
        let ids = |places: &[usize]| places.iter().map(|&place| rows[place].point.id).collect::<Vec<u64>>();
        let frontiers = frontiers(rows, Tolerance::DEFAULT).unwrap();
        let mut all = Vec::new();
        for frontier in &frontiers {
            let places = frontier.conditions.places(rows);
            let (_, best) = best_at_one_peak(rows, &places, frontier.view).unwrap().unwrap();
            let mut cells = std::collections::HashSet::new();
            let first = places
                .iter()
                .filter(|&&i| cells.insert((cell(frontier.view, &rows[i]), &rows[i].point.device)));
            let first: Vec<usize> = first.copied().collect();
            all.push((ids(&frontier.places), ids(&best), ids(&first)));
        }
        all
    };
    let expected = view(&rows);
    assert!(
        expected
            .iter()
            .any(|(frontier, _, first)| frontier.len() > 2 && first.len() < 24)
    );
    for least in [1, 10, 100, 1000] {
        let mut kept = Kept::new(Tolerance::DEFAULT, least);
        rows.iter().for_each(|row| kept.push(row.clone()).unwrap());
        let kept = kept.into_rows();
        assert!(kept.len() < rows.len() || least == 1000);
        assert_eq!(view(&kept), expected, "{least}");
    }
}

/// Figures on a coarse grid, so that rows tie, fall into one cell, and dominate each other.
fn tangled(point: &Point) -> Row {
    let h = point.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let outcome = Outcome {
        fidelity_db: (h % 7) as f64 * 0.2,
        efficiency_equal_peak: 1.0 + (h / 7 % 9) as f64 * 0.004,
        efficiency_equal_area: 1.0 + (h / 63 % 5) as f64 * 0.5,
        ..Outcome::default()
    };
    Row {
        point: point.clone(),
        outcome,
    }
}
