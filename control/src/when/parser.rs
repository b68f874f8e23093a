//! Words and signs to a tree, by the precedences of the expr language.

use super::WhenError;
use super::lexer::{Token, tokens};
use crate::text::quoted;

/// A part of a condition, and its column.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) column: usize,
    pub(super) node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Expr>),
    Name(String),
    /// `not`, `-` or `+`.
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    /// `a.b`
    Member(Box<Expr>, String),
    /// `a[b]`
    Index(Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
    /// condition, then, else
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// An operator's spellings, its name, and how strongly it binds.
const BINARY: [(&str, &str, u8); 24] = [
    ("or", "or", 10),
    ("||", "or", 10),
    ("and", "and", 15),
    ("&&", "and", 15),
    ("==", "==", 20),
    ("!=", "!=", 20),
    ("<", "<", 20),
    (">", ">", 20),
    ("<=", "<=", 20),
    (">=", ">=", 20),
    ("in", "in", 20),
    ("matches", "matches", 20),
    ("contains", "contains", 20),
    ("startsWith", "startsWith", 20),
    ("endsWith", "endsWith", 20),
    ("..", "..", 25),
    ("+", "+", 30),
    ("-", "-", 30),
    ("*", "*", 60),
    ("/", "/", 60),
    ("%", "%", 60),
    ("**", "**", POWER),
    ("^", "**", POWER),
    ("??", "??", 200),
];
const UNARY: [(&str, &str, u8); 4] = [("not", "not", 50), ("!", "not", 50), ("-", "-", 90), ("+", "+", 90)];
/// Powers bind to the right: `2 ** 3 ** 2` is `2 ** (3 ** 2)`.
const POWER: u8 = 100;
/// How deep brackets and operators may lie in one another.
const MAX_DEPTH: usize = 40;

/// The tree of a condition, and whether it names `success`, `failure` or `always`.
pub(super) fn parse(text: &str) -> Result<(Expr, bool), WhenError> {
    let end = text.chars().count() + 1;
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end, depth: 0, names_status: false };
    let expr = parser.expression(0)?;
    match parser.tokens.get(parser.at) {
        Some(token) => Err(unexpected(token)),
        None => Ok((expr, parser.names_status)),
    }
}

fn unexpected((column, token): &(usize, Token)) -> WhenError {
    let message = match token {
        Token::Word(word) => format!("{} can not stand here; an operator is missing", quoted(word)),
        Token::Sign("=") => "'=' can not stand here; equality is '=='".into(),
        Token::Sign("{") => "'{' can not stand here; closures and map literals are not supported".into(),
        Token::Sign(sign) => format!("'{sign}' can not stand here"),
        _ => "a value can not stand here; an operator is missing".into(),
    };
    WhenError { column: *column, message }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
    depth: usize,
    names_status: bool,
}

impl Parser {
    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(column, _)| *column)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, WhenError> {
        Err(WhenError { column: self.column(), message: message.into() })
    }

    /// The operator that the next token is, by its spelling in `table`.
    fn operator(&self, ahead: usize, table: &[(&str, &'static str, u8)]) -> Option<(&'static str, u8)> {
        let spelling = match &self.tokens.get(self.at + ahead)?.1 {
            Token::Word(word) => word.as_str(),
            Token::Sign(sign) => sign,
            _ => return None,
        };
        table.iter().find(|(known, ..)| *known == spelling).map(|(_, name, binds)| (*name, *binds))
    }

    fn skips(&mut self, sign: &str) -> bool {
        let there = matches!(self.tokens.get(self.at), Some((_, Token::Sign(next))) if *next == sign);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &str) -> Result<(), WhenError> {
        if self.skips(sign) { Ok(()) } else { self.fail(format!("'{sign}' is missing here")) }
    }

    fn expression(&mut self, binds_at_least: u8) -> Result<Expr, WhenError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("the condition is nested deeper than {MAX_DEPTH} levels"));
        }
        let mut left = self.operand()?;
        loop {
            if binds_at_least == 0 && self.skips("|") {
                left = self.pipe(left)?;
                continue;
            }
            let column = self.column();
            let negated = matches!(self.tokens.get(self.at), Some((_, Token::Word(word))) if word == "not");
            let Some((name, binds)) = self.operator(usize::from(negated), &BINARY).filter(|(_, binds)| *binds >= binds_at_least)
            else {
                break;
            };
            let is_word = matches!(name, "in" | "matches" | "contains" | "startsWith" | "endsWith");
            if negated && !is_word {
                break;
            }
            self.at += 1 + usize::from(negated);
            let right = self.expression(if binds == POWER { binds } else { binds + 1 })?;
            let node = Node::Binary(name, Box::new(left), Box::new(right));
            left = Expr { column, node };
            if negated {
                left = Expr { column, node: Node::Unary("not", Box::new(left)) };
            }
        }
        if binds_at_least == 0 {
            left = self.choice(left)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// `condition ? then : otherwise`
    fn choice(&mut self, condition: Expr) -> Result<Expr, WhenError> {
        let column = self.column();
        if !self.skips("?") {
            return Ok(condition);
        }
        let then = self.expression(0)?;
        self.expect(":")?;
        let otherwise = self.expression(0)?;
        Ok(Expr { column, node: Node::Choice(Box::new(condition), Box::new(then), Box::new(otherwise)) })
    }

    /// The call behind a `|`, which takes what is before it as its first argument.
    fn pipe(&mut self, first: Expr) -> Result<Expr, WhenError> {
        let Some((column, Token::Word(name))) = self.tokens.get(self.at).cloned() else {
            return self.fail("the name of a function must follow '|'");
        };
        self.at += 1;
        self.expect("(")?;
        let mut arguments = vec![first];
        arguments.extend(self.list(")")?);
        self.postfix(Expr { column, node: Node::Call(name, arguments) })
    }

    fn operand(&mut self) -> Result<Expr, WhenError> {
        let column = self.column();
        if let Some((name, binds)) = self.operator(0, &UNARY) {
            self.at += 1;
            let inner = self.expression(binds)?;
            return Ok(Expr { column, node: Node::Unary(name, Box::new(inner)) });
        }
        let Some(token) = self.tokens.get(self.at).cloned() else { return self.fail("a value is missing at the end") };
        if self.operator(0, &BINARY).is_some() {
            return self.fail("a value is missing here");
        }
        self.at += 1;
        let node = match token.1 {
            Token::Text(text) => Node::Text(text),
            Token::Int(value) => Node::Int(value),
            Token::Float(value) => Node::Float(value),
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                return self.postfix(inner);
            }
            Token::Sign("[") => Node::List(self.list("]")?),
            Token::Word(word) if self.skips("(") => {
                self.names_status |= matches!(word.as_str(), "success" | "failure" | "always");
                Node::Call(word, self.list(")")?)
            }
            Token::Word(word) => match word.as_str() {
                "true" => Node::Bool(true),
                "false" => Node::Bool(false),
                "nil" => Node::Nil,
                _ => Node::Name(word),
            },
            Token::Sign(_) => return Err(unexpected(&token)),
        };
        self.postfix(Expr { column, node })
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr, WhenError> {
        loop {
            let column = self.column();
            let optional = self.skips("?.");
            let node = if self.skips("[") {
                let index = self.expression(0)?;
                self.expect("]")?;
                Node::Index(Box::new(expr), Box::new(index))
            } else if optional || self.skips(".") {
                let Some((_, Token::Word(name))) = self.tokens.get(self.at).cloned() else {
                    return self.fail("a name must follow '.'");
                };
                self.at += 1;
                Node::Member(Box::new(expr), name)
            } else {
                return Ok(expr);
            };
            expr = Expr { column, node };
        }
    }

    /// What stands up to `close`, separated by commas.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, WhenError> {
        let mut elements = Vec::new();
        while !self.skips(close) {
            if !elements.is_empty() {
                self.expect(",")?;
                if self.skips(close) {
                    break;
                }
            }
            elements.push(self.expression(0)?);
        }
        Ok(elements)
    }
}
