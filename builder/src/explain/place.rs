//! Which step of the last build stands in the place of which step of this one.

use std::collections::BTreeMap;

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot<'a> {
    pub(super) stage: &'a str,
    pub(super) text: &'a str,
}

/// More pairs of steps than this are not compared for the longest common run.
const MOST_PAIRS: usize = 1 << 20;

/// For each new step the old one in its place. Stages are the same by name, else by position; within them, equal texts
/// go together in order, and what stands between two such pairs goes together from the front.
pub(super) fn pair(old: &[Spot<'_>], new: &[Spot<'_>]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; new.len()];
    let (old_stages, new_stages) = (stages(old), stages(new));
    let by_name: BTreeMap<&str, &Vec<usize>> =
        old_stages.iter().map(|(name, steps)| (*name, steps)).collect();
    for (position, (name, steps)) in new_stages.iter().enumerate() {
        let by_position = || {
            let (other, steps) = old_stages.get(position)?;
            let taken = new_stages.iter().any(|(name, _)| name == other);
            (!taken).then_some(steps)
        };
        let Some(before) = by_name.get(name).copied().or_else(by_position) else { continue };
        pair_stage(old, before, new, steps, &mut pairs);
    }
    pairs
}

/// Steps by stage, in the order in which stages first appear.
fn stages<'a>(spots: &[Spot<'a>]) -> Vec<(&'a str, Vec<usize>)> {
    let mut order: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, spot) in spots.iter().enumerate() {
        let at = *known.entry(spot.stage).or_insert_with(|| {
            order.push((spot.stage, Vec::new()));
            order.len() - 1
        });
        order[at].1.push(index);
    }
    order
}

fn pair_stage(
    old: &[Spot<'_>],
    before: &[usize],
    new: &[Spot<'_>],
    after: &[usize],
    pairs: &mut [Option<usize>],
) {
    let same = |one: usize, other: usize| old[before[one]].text == new[after[other]].text;
    let shorter = before.len().min(after.len());
    let head = (0..shorter).take_while(|at| same(*at, *at)).count();
    let tail = (0..shorter - head).take_while(|at| same(before.len() - 1 - at, after.len() - 1 - at)).count();
    let mut anchors: Vec<(usize, usize)> = (0..head).map(|at| (at, at)).collect();
    let (old_middle, new_middle) = (head..before.len() - tail, head..after.len() - tail);
    if old_middle.len().saturating_mul(new_middle.len()) <= MOST_PAIRS {
        anchors.extend(longest_common(old_middle, new_middle, &same));
    }
    anchors.extend((0..tail).rev().map(|at| (before.len() - 1 - at, after.len() - 1 - at)));
    anchors.push((before.len(), after.len()));
    let (mut one, mut other) = (0, 0);
    for (next_one, next_other) in anchors {
        for (left, right) in (one..next_one).zip(other..next_other) {
            pairs[after[right]] = Some(before[left]);
        }
        if next_other < after.len() {
            pairs[after[next_other]] = Some(before[next_one]);
        }
        (one, other) = (next_one + 1, next_other + 1);
    }
}

fn longest_common(
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
    same: &dyn Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut length = vec![0u32; (old.len() + 1) * width];
    for one in (0..old.len()).rev() {
        for other in (0..new.len()).rev() {
            length[one * width + other] = if same(old.start + one, new.start + other) {
                length[(one + 1) * width + other + 1] + 1
            } else {
                length[(one + 1) * width + other].max(length[one * width + other + 1])
            };
        }
    }
    let (mut one, mut other) = (0, 0);
    let mut found = Vec::new();
    while one < old.len() && other < new.len() {
        if same(old.start + one, new.start + other) {
            found.push((old.start + one, new.start + other));
            (one, other) = (one + 1, other + 1);
        } else if length[(one + 1) * width + other] >= length[one * width + other + 1] {
            one += 1;
        } else {
            other += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots<'a>(text: &[&'a str]) -> Vec<Spot<'a>> {
        text.iter()
            .map(|step| {
                let (stage, text) = step.split_once(' ').unwrap_or(("0", step));
                Spot { stage, text }
            })
            .collect()
    }

    fn check(old: &[&str], new: &[&str], expected: &[Option<usize>]) {
        assert_eq!(pair(&spots(old), &spots(new)), expected, "{old:?} {new:?}");
    }

    #[test]
    fn steps_find_their_places() {
        check(&["a F", "a x", "a y"], &["a F", "a x", "a y"], &[Some(0), Some(1), Some(2)]);
        check(&["a F", "a x", "a y"], &["a F", "a z", "a y"], &[Some(0), Some(1), Some(2)]);
        check(&["a F", "a x", "a y"], &["a F", "a new", "a x", "a y"], &[Some(0), None, Some(1), Some(2)]);
        check(&["a F", "a x", "a y", "a z"], &["a F", "a y", "a z"], &[Some(0), Some(2), Some(3)]);
        check(&["a F", "a x", "b F"], &["b F", "a F", "a x2"], &[Some(2), Some(0), Some(1)]);
        check(&["a F", "a x"], &["renamed F", "renamed x"], &[Some(0), Some(1)]);
        check(
            &["a F", "a m", "a n", "a t"],
            &["a F", "a p", "a m", "a q", "a t"],
            &[Some(0), None, Some(1), Some(2), Some(3)],
        );
        check(&[], &["a F"], &[None]);
    }
}
