//! `if:` conditions: `==`, `!=`, `&&`, `||`, parentheses and quoted texts, as melange reads them: `&&` and
//! `||` bind alike, from left to right.

use crate::error::Error;
use crate::substitute::{Origin, Scope, substitute};
use crate::text::{Location, Text};

const MAXIMUM_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Value(String),
    Equal,
    NotEqual,
    And,
    Or,
    Open,
    Close,
}

/// Whether `condition` holds. Substitutions are made inside each operand after the condition has been
/// taken apart, so a value never changes the condition's shape.
pub(crate) fn holds(condition: &Text, origin: Origin<'_>, scope: &Scope<'_>) -> Result<bool, Error> {
    let wrong = |reason: &str| Error::Condition {
        location: Location::new(origin.file, condition.position),
        condition: condition.value.clone(),
        reason: reason.to_owned(),
    };
    let mut tokens = Vec::new();
    for token in tokenize(&condition.value).map_err(wrong)? {
        tokens.push(match token {
            Token::Value(value) => {
                Token::Value(substitute(&Text { value, position: condition.position }, origin, scope)?)
            }
            other => other,
        });
    }
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let result = parser.expression().map_err(wrong)?;
    if parser.tokens.is_empty() {
        Ok(result)
    } else {
        Err(wrong("something follows its end; join parts with `&&` or `||`"))
    }
}

fn tokenize(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let two = rest.get(..2).unwrap_or_default();
        let (token, length) = match (first, two) {
            (_, "==") => (Token::Equal, 2),
            (_, "!=") => (Token::NotEqual, 2),
            (_, "&&") => (Token::And, 2),
            (_, "||") => (Token::Or, 2),
            ('(', _) => (Token::Open, 1),
            (')', _) => (Token::Close, 1),
            ('"' | '\'', _) => {
                let (value, length) = quoted(rest, first).ok_or("a quoted text has no end")?;
                (Token::Value(value), length)
            }
            _ => {
                let length = bare_length(rest).ok_or("`${{` has no `}}`")?;
                if length == 0 {
                    return Err("expected a value, `==`, `!=`, `&&`, `||` or a parenthesis");
                }
                (Token::Value(rest.get(..length).unwrap_or_default().to_owned()), length)
            }
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(tokens)
}

/// The content of the quoted text at the start of `text`, and its bytes with the quotes. A backslash
/// escapes a quote, itself, `n` and `t`.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((value, index + 1)),
            '\\' => match characters.next()?.1 {
                escaped @ ('\\' | '\'' | '"') => value.push(escaped),
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.extend(['\\', other]),
            },
            _ => value.push(character),
        }
    }
    None
}

/// Bytes of the unquoted word at the start of `text`, `${{ ... }}` counting as part of it.
fn bare_length(text: &str) -> Option<usize> {
    let mut length = 0;
    while let Some(rest) = text.get(length..) {
        if rest.starts_with("${{") {
            length += rest.find("}}")? + 2;
            continue;
        }
        match rest.chars().next() {
            Some(next) if !next.is_whitespace() && !"()=!&|\"'".contains(next) => length += next.len_utf8(),
            _ => break,
        }
    }
    Some(length)
}

struct Parser<'t> {
    tokens: &'t [Token],
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self) -> Option<&Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn next_is(&mut self, token: &Token) -> bool {
        let is = self.tokens.first() == Some(token);
        if is {
            self.take();
        }
        is
    }

    fn expression(&mut self) -> Result<bool, &'static str> {
        let mut result = self.comparison()?;
        loop {
            if self.next_is(&Token::And) {
                result &= self.comparison()?;
            } else if self.next_is(&Token::Or) {
                result |= self.comparison()?;
            } else {
                return Ok(result);
            }
        }
    }

    fn comparison(&mut self) -> Result<bool, &'static str> {
        if self.next_is(&Token::Open) {
            self.depth += 1;
            if self.depth > MAXIMUM_DEPTH {
                return Err("more than 32 nested parentheses");
            }
            let result = self.expression()?;
            self.depth -= 1;
            return if self.next_is(&Token::Close) { Ok(result) } else { Err("a `(` has no `)`") };
        }
        let left = self.value()?;
        let equal = match self.take() {
            Some(Token::Equal) => true,
            Some(Token::NotEqual) => false,
            _ => return Err("a value must be compared with `==` or `!=`"),
        };
        Ok((left == self.value()?) == equal)
    }

    fn value(&mut self) -> Result<String, &'static str> {
        match self.take() {
            Some(Token::Value(value)) => Ok(value.clone()),
            _ => Err("a value is missing; write an empty one as `''`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &str) -> Result<bool, String> {
        let mut scope = Scope::default();
        scope.set("build.arch", "x86_64");
        scope.set("odd", "a' == 'a");
        let origin = Origin { file: "p.yaml", source: condition };
        holds(&Text { value: condition.to_owned(), position: Default::default() }, origin, &scope)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn conditions_compare_and_combine() {
        for (condition, expected) in [
            ("${{build.arch}} == 'x86_64'", true),
            ("${{build.arch}} == \"aarch64\"", false),
            ("${{build.arch}} != aarch64", true),
            ("'${{build.arch}}-x' == 'x86_64-x'", true),
            ("'a' == 'b' && 'a' == 'a' || 'c' == 'c'", true),
            ("'a' == 'b' && ('a' == 'a' || 'c' == 'c')", false),
            ("${{odd}} == 'a'", false),
            ("'' == ''", true),
            // From left to right: melange gives neither operator precedence.
            ("'a' == 'a' || 'a' == 'a' && 'a' == 'b'", false),
            ("'a' == 'a' || ('a' == 'a' && 'a' == 'b')", true),
            (r#"'it\'s' == "it's""#, true),
            (r#"'a\n' != 'a\\n' && 'a\q' == "a\q""#, true),
            ("1.10 == '1.10' && 12 != 13", true),
            ("  (( ${{ build.arch }}=='x86_64' ))\n", true),
        ] {
            assert_eq!(check(condition), Ok(expected), "{condition}");
        }
    }

    #[test]
    fn broken_conditions_say_what_is_wrong() {
        for (condition, reason) in [
            ("'a", "no end"),
            ("'a' ==", "missing"),
            ("'a'", "compared"),
            ("('a' == 'a'", "no `)`"),
            ("'a' == 'a' 'b'", "follows"),
            ("'a' = 'a'", "expected a value"),
            ("${{nothing}} == 'a'", "`${{nothing}}` is not defined"),
            ("${{build.arch == 'a'", "no `}}`"),
        ] {
            let message = check(condition).unwrap_err();
            assert!(message.contains(reason), "{condition}: {message}");
        }
        assert!(check(&"(".repeat(100_000)).unwrap_err().contains("32"));
    }
}
