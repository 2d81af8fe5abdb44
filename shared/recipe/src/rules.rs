//! What the values of an image definition may be: for its reader, which says where a bad one stands,
//! and for the composition, whose settings may come from elsewhere.

use apk::limits;

/// A user or group name that every C library reads back: 1 to 32 letters, digits, `_`, `-` or `.`.
///
/// # Errors
/// What it must be.
pub fn account_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.chars().all(plain) {
        return Err("a name has 1 to 32 letters, digits, `_`, `-` or `.`, and no `-` first");
    }
    Ok(())
}

/// A field of `/etc/passwd`, such as a shell or a home directory.
///
/// # Errors
/// What it must not hold.
pub fn account_field(value: &str) -> Result<(), &'static str> {
    if value.contains([':', '\n']) { Err("it holds `:` or a line break") } else { Ok(()) }
}

/// The name of a key, certificate or service, which becomes that of a file: letters, digits, `.`,
/// `_` and `-`, 128 at most.
///
/// # Errors
/// What it must be.
pub fn file_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(plain) {
        return Err("a name is letters, digits, `.`, `_` and `-`, and no `.` first");
    }
    Ok(())
}

/// An absolute path in an image; gives it relative to the root, without a slash at its end.
///
/// # Errors
/// What it must be.
pub fn absolute_path(path: &str) -> Result<&str, &'static str> {
    let Some(inside) = path.strip_prefix('/') else {
        return Err("it is not absolute");
    };
    path_in_root(inside)
}

/// A path in an image, from the root whether it says so or not; gives it relative to the root,
/// without a slash at its end.
///
/// # Errors
/// What it must be.
pub fn path_in_root(path: &str) -> Result<&str, &'static str> {
    let inside = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    if path.contains('\0') || path.len() > limits::PATH_BYTES {
        return Err("it is no path");
    }
    if inside.split('/').any(|part| matches!(part, "." | "..")) || inside.contains("//") {
        return Err("it has a component `.`, `..` or nothing between slashes");
    }
    Ok(inside)
}

/// The name of an environment variable.
///
/// # Errors
/// What it must be.
pub fn environment_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.contains(['=', '\0']) { Err("a name is not empty and has no `=`") } else { Ok(()) }
}

/// The words of a line, as a shell would split it.
///
/// # Errors
/// Why it can't be split.
pub fn command_line(line: &str) -> Result<Vec<String>, &'static str> {
    shlex::split(line).ok_or("its quotes don't pair")
}

/// A value of `/etc/os-release`; a bare one stands there without quotes.
///
/// # Errors
/// What it must be.
pub fn os_release(value: &str, bare: bool) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if bare && !value.chars().all(plain) {
        return Err("letters, digits, `.`, `_` and `-` only");
    }
    if value.contains(['"', '$', '`', '\\']) || value.chars().any(char::is_control) {
        return Err("no quotes, `$`, backslashes or line breaks");
    }
    Ok(())
}

/// A signal as container engines take it: `SIGTERM`, `TERM`, `SIGRTMIN+3` or a number.
///
/// # Errors
/// What it must be.
pub fn stop_signal(signal: &str) -> Result<(), &'static str> {
    let number = signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '+' | '-');
    let name = signal.starts_with(|c: char| c.is_ascii_uppercase()) && signal.chars().all(plain);
    if number || name { Ok(()) } else { Err("a signal is a name such as `SIGTERM`, or a number from 1 to 64") }
}

/// Mode bits.
///
/// # Errors
/// What they must be.
pub fn permissions(mode: u32) -> Result<(), &'static str> {
    if mode > 0o7777 { Err("permissions are at most 0o7777; write them in octal, as `0o755`") } else { Ok(()) }
}

/// Text that holds one PEM block with this label and no other.
///
/// # Errors
/// What it must be.
pub fn one_pem(content: &str, label: &str) -> Result<(), String> {
    let found: Vec<&str> =
        content.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")).collect();
    match found.as_slice() {
        [one] if *one == label => Ok(()),
        [one] => Err(format!("expected a PEM block `{label}`, found `{}`", one.escape_debug())),
        _ => Err("its content is one PEM block, no less and no more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain() {
        assert_eq!(absolute_path("/a/b/"), Ok("a/b"));
        assert_eq!(absolute_path("/"), Ok(""));
        assert_eq!(path_in_root("run/app"), Ok("run/app"));
        for path in ["a", "/a/../b", "/./a", "/a//b", "/a\0"] {
            assert!(absolute_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn signals_are_names_or_numbers() {
        for signal in ["SIGTERM", "TERM", "SIGRTMIN+3", "15"] {
            assert_eq!(stop_signal(signal), Ok(()), "{signal}");
        }
        for signal in ["", "0", "65", "sigterm", "SIG TERM"] {
            assert!(stop_signal(signal).is_err(), "{signal}");
        }
    }
}
