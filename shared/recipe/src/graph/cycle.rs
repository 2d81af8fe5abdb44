//! Why definitions need each other, in words.

use std::fmt;

/// Why one definition must be built before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Its package is wanted in the environment.
    Build,
    /// Its package is needed at run time by a package of the environment.
    Runtime,
}

/// One link of a chain: `from` needs `package`, which `to` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The definition that needs.
    pub from: String,
    /// The definition that must come first.
    pub to: String,
    /// What is asked for.
    pub package: String,
    /// How it comes to be asked for.
    pub kind: LinkKind,
    /// For a runtime need, the packages that lead to it: the one that the environment wants, and on to the
    /// one that needs `package`.
    pub through: Vec<String>,
}

/// Definitions that can't be built because each needs the other first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Cycle {
    /// The chain; the last link leads to where the first starts.
    pub links: Vec<Link>,
    /// Every definition that needs, and is needed by, those of the chain, which are among them; a to z.
    pub members: Vec<String>,
}

/// How many members of a cycle its message names.
const MOST_NAMED: usize = 20;

impl fmt::Display for Cycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("packages need each other to be built: ")?;
        for link in &self.links {
            write!(formatter, "{} -> ", link.from)?;
        }
        write!(formatter, "{}", self.links.first().map_or("", |link| &link.from))?;
        for (index, link) in self.links.iter().enumerate() {
            formatter.write_str(if index == 0 { " (" } else { "; " })?;
            write!(formatter, "`{}` builds with ", link.from)?;
            for through in &link.through {
                write!(formatter, "`{through}`, which needs ")?;
            }
            write!(formatter, "`{}`", link.package)?;
            if link.package != link.to {
                write!(formatter, " of `{}`", link.to)?;
            }
        }
        formatter.write_str(")")?;
        if self.members.len() <= self.links.len() {
            return Ok(());
        }
        let named: Vec<&str> = self.members.iter().take(MOST_NAMED).map(String::as_str).collect();
        write!(formatter, "; in all {} definitions need each other: {}", self.members.len(), named.join(", "))?;
        match self.members.len().saturating_sub(MOST_NAMED) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}
