//! Files of variables: `NAME=value` lines, as docker and its libraries read them.

/// Names and values; those without a value are left out, as container-structure-test does. The error is the line
/// and what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            return Err((number, format!("`{line}` is no variable; `NAME=value` is expected")));
        };
        let (name, value) = (name.trim(), unquoted(value.trim()));
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err((number, format!("`{name}` is no name of a variable")));
        }
        if !value.is_empty() {
            variables.push((name.to_owned(), value));
        }
    }
    Ok(variables)
}

/// A value without its quotes; without quotes it ends before a comment.
fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inside, after)) = value.strip_prefix(quote).and_then(|rest| rest.rsplit_once(quote))
            && (after.is_empty() || after.trim_start().starts_with('#'))
        {
            return inside.to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_comments_or_wrong() {
        let text = "# of a test\nFOO=keepitsecret!\n\nexport B = \"a # b\" # c\nC='x=y'\nEMPTY=\nD=1 # one\n";
        let found = parse(text).unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(found, ["FOO=keepitsecret!", "B=a # b", "C=x=y", "D=1"]);
        assert_eq!(parse("A=1\nnothing\n").unwrap_err().0, 2);
        assert_eq!(parse("=1\n").unwrap_err().0, 1);
    }
}
