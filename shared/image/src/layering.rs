use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::facts::Opened;
use crate::install::replaces;

/// How packages are spread over layers: apko's strategy `origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layering {
    /// The most layers that hold packages. One more, the top one, holds the rest.
    pub budget: u64,
}

/// Which packages have a layer together.
pub(crate) struct Layers {
    /// Numbers of packages, sorted by their names; without layering there is no group.
    pub groups: Vec<Vec<usize>>,
}

/// Packages of one origin share a layer, and those of which one replaces the other. The groups with
/// the largest installed sizes come first; those past the budget share its last layer.
pub(crate) fn plan(packages: &[Opened], layering: Option<Layering>) -> Result<Layers, Error> {
    let Some(Layering { budget }) = layering else {
        return Ok(Layers { groups: Vec::new() });
    };
    let mut first_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut group_of: Vec<usize> = Vec::with_capacity(packages.len());
    for (number, package) in packages.iter().enumerate() {
        let information = &package.information;
        let origin = if information.origin.is_empty() { &information.name } else { &information.origin };
        group_of.push(*first_of.entry(origin).or_insert(number));
    }
    for (number, package) in packages.iter().enumerate() {
        if package.information.replaces.is_empty() {
            continue;
        }
        for (other, replaced) in packages.iter().enumerate() {
            if replaces(&package.information, &replaced.information)? {
                join(&mut group_of, number, other);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, group) in group_of.iter().enumerate() {
        groups.entry(*group).or_default().push(number);
    }
    let name = |number: &usize| packages.get(*number).map_or("", |package| package.information.name.as_str());
    let size =
        |number: &usize| packages.get(*number).map_or(0, |package| u128::from(package.information.installed_size));
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_cached_key(|group| {
        let size: u128 = group.iter().map(size).sum();
        (std::cmp::Reverse(size), group.iter().map(name).max().unwrap_or_default().to_owned())
    });
    let budget = usize::try_from(budget).unwrap_or(usize::MAX).max(1);
    if groups.len() > budget {
        let rest: BTreeSet<usize> = groups.split_off(budget - 1).into_iter().flatten().collect();
        groups.push(rest.into_iter().collect());
    }
    for group in &mut groups {
        group.sort_by(|first, second| name(first).cmp(name(second)));
    }
    Ok(Layers { groups })
}

fn join(group_of: &mut [usize], first: usize, second: usize) {
    let (Some(&into), Some(&from)) = (group_of.get(first), group_of.get(second)) else { return };
    for group in group_of {
        if *group == from {
            *group = into;
        }
    }
}
