//! A condition's text to words and signs.

use super::{MAX_BYTES, MAX_TOKENS, WhenError};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name, or an operator that is a word.
    Word(String),
    /// An operator or a bracket.
    Sign(&'static str),
    Text(String),
    Int(i64),
    Float(f64),
}

/// Longer ones first.
const SIGNS: [&str; 32] = [
    "&&", "||", "==", "!=", "<=", ">=", "**", "??", "?.", "..", "!", "<", ">", "+", "-", "*", "/", "%", "^", "?", ":", "|", "(",
    ")", "[", "]", ",", ".", "{", "}", ";", "=",
];

/// The words and signs, each with its column.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, WhenError> {
    if text.len() > MAX_BYTES {
        return Err(WhenError {
            column: 1,
            message: format!("the condition has {} bytes; at most {MAX_BYTES} are allowed", text.len()),
        });
    }
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space()?;
        let column = lexer.at + 1;
        let Some(token) = lexer.token().map_err(|message| WhenError { column, message })? else { return Ok(tokens) };
        if tokens.len() == MAX_TOKENS {
            return Err(WhenError { column, message: format!("the condition has more than {MAX_TOKENS} words and signs") });
        }
        tokens.push((column, token));
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn starts_with(&self, sign: &str) -> bool {
        sign.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let begin = self.at;
        while self.peek(0).is_some_and(&belongs) {
            self.at += 1;
        }
        self.chars[begin..self.at].iter().collect()
    }

    /// Skips space and comments: `// …` and `/* … */`.
    fn skip_space(&mut self) -> Result<(), WhenError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.starts_with("/*") {
                let column = self.at + 1;
                while !self.starts_with("*/") {
                    self.at += 1;
                    if self.at >= self.chars.len() {
                        return Err(WhenError { column, message: "the comment that begins here has no '*/'".into() });
                    }
                }
                self.at += 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Option<Token>, String> {
        let Some(c) = self.peek(0) else { return Ok(None) };
        let token = match c {
            '"' | '\'' => Token::Text(self.text(c)?),
            '`' => Token::Text(self.raw_text()?),
            '0'..='9' => self.number()?,
            '.' if self.peek(1).is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            c if c == '_' || c == '$' || c.is_alphabetic() => {
                Token::Word(self.take_while(|c| c == '_' || c == '$' || c.is_alphanumeric()))
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| self.starts_with(sign));
                let sign = sign.ok_or_else(|| format!("'{}' means nothing in a condition", c.escape_debug()))?;
                self.at += sign.len();
                Token::Sign(sign)
            }
        };
        Ok(Some(token))
    }

    fn raw_text(&mut self) -> Result<String, String> {
        self.at += 1;
        let text = self.take_while(|c| c != '`');
        self.at += 1;
        if self.at > self.chars.len() { Err("the text that begins here has no closing quote".into()) } else { Ok(text) }
    }

    fn text(&mut self, quote: char) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let c = self.peek(0).ok_or("the text that begins here has no closing quote")?;
            self.at += 1;
            match c {
                '\\' => text.push(self.escape()?),
                c if c == quote => return Ok(text),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.peek(0).ok_or("the text that begins here has no closing quote")?;
        self.at += 1;
        let digits = match c {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            '\\' | '\'' | '"' | '`' => return Ok(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            c => return Err(format!("the text that begins here has an unknown escape '\\{}'", c.escape_debug())),
        };
        let code: String = (0..digits).filter_map(|ahead| self.peek(ahead)).collect();
        self.at += digits;
        (u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits)).and_then(char::from_u32).ok_or_else(|| {
            format!("the text that begins here has an escape '\\{c}' without {digits} hexadecimal digits of a character")
        })
    }

    fn number(&mut self) -> Result<Token, String> {
        let radix = [("0x", 16), ("0b", 2), ("0o", 8)].into_iter().find(|(prefix, _)| self.starts_with(prefix));
        if let Some((_, radix)) = radix {
            self.at += 2;
            let digits = self.take_while(|c| c.is_alphanumeric() || c == '_').replace('_', "");
            return i64::from_str_radix(&digits, radix)
                .map(Token::Int)
                .map_err(|_| "this is not a whole number up to 2^63".into());
        }
        let mut text = self.take_while(|c| c.is_ascii_digit() || c == '_');
        let mut is_float = false;
        // `1..3` is a range.
        if self.peek(0) == Some('.') && self.peek(1) != Some('.') {
            is_float = true;
            self.at += 1;
            text.push('.');
            text.push_str(&self.take_while(|c| c.is_ascii_digit() || c == '_'));
        }
        if self.peek(0).is_some_and(|c| matches!(c, 'e' | 'E')) {
            is_float = true;
            self.at += 1;
            text.push('e');
            text.extend(self.peek(0).filter(|c| matches!(c, '+' | '-')).inspect(|_| self.at += 1));
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        let text = text.replace('_', "");
        if self.peek(0).is_some_and(char::is_alphabetic) {
            return Err("a letter follows this number; put a space or an operator between".into());
        }
        if is_float {
            text.parse().map(Token::Float).map_err(|_| "this is not a number".into())
        } else {
            text.parse().map(Token::Int).map_err(|_| "this is not a whole number up to 2^63".into())
        }
    }
}
