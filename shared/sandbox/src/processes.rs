//! What the processes of a job use, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The descendants of one process, without itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// How many are alive.
    pub(crate) processes: usize,
    /// Bytes of anonymous and shared memory they hold.
    pub(crate) memory: u64,
}

struct Process {
    parent: u32,
    memory: u64,
    is_zombie: bool,
}

/// What the descendants of `root` use now. Processes that end meanwhile are not counted.
pub(crate) fn usage(root: u32) -> std::io::Result<Usage> {
    let processes = all()?;
    let seen = descendants(root, &processes);
    let memory = seen.iter().filter_map(|id| processes.get(id)).map(|process| process.memory).sum();
    Ok(Usage { processes: seen.len(), memory })
}

/// A process and its descendants.
pub(crate) fn members(root: u32) -> std::io::Result<BTreeSet<u32>> {
    let mut members = descendants(root, &all()?);
    members.insert(root);
    Ok(members)
}

/// How many children of a process have ended without being waited for.
pub(crate) fn zombies(parent: u32) -> std::io::Result<usize> {
    Ok(all()?.values().filter(|process| process.parent == parent && process.is_zombie).count())
}

fn all() -> std::io::Result<BTreeMap<u32, Process>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else {
            continue;
        };
        if let Some(process) = parse(&status) {
            processes.insert(id, process);
        }
    }
    Ok(processes)
}

fn descendants(root: u32, processes: &BTreeMap<u32, Process>) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (id, process) in processes {
        children.entry(process.parent).or_default().push(*id);
    }
    let mut seen = BTreeSet::new();
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        for child in children.get(&id).into_iter().flatten() {
            if seen.insert(*child) {
                waiting.push(*child);
            }
        }
    }
    seen
}

fn parse(status: &str) -> Option<Process> {
    let mut parent = None;
    let mut memory = 0;
    let mut is_zombie = false;
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let number = || value.split_whitespace().next()?.parse::<u64>().ok();
        match key {
            "State" => is_zombie = value.trim_start().starts_with('Z'),
            "PPid" => parent = u32::try_from(number()?).ok(),
            "RssAnon" | "RssShmem" => memory += number()? * 1024,
            _ => {}
        }
    }
    Some(Process { parent: parent?, memory, is_zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_children_are_counted() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 5 & sleep 5 & echo; read gone"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let of_shell = usage(child.id()).unwrap();
        let of_us = usage(std::process::id()).unwrap();
        let sleepers: Vec<_> = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        std::process::Command::new("kill").args(&sleepers).status().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(of_shell.processes, 2);
        assert!(of_us.processes >= 3);
        assert!(of_us.memory > of_shell.memory);
    }
}
