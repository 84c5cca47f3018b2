//! From the text of a program to one that runs, or to what is wrong with it and where.

use std::thread;

use jaq_core::compile::Undefined;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::load::{self, Arena, File, Loader, span};
use jaq_core::{Compiler, Filter};

use super::meter;
use super::natives::{defs, funs};
use super::run::{Json, VARIABLES};
use crate::nearest::nearest;
use crate::transform::Wrong;

/// Longest program, in bytes; Firehose takes 5120.
pub const PROGRAM_BYTES_MAX: usize = 16 << 10;

/// Parser and compiler call themselves for every bracket: this much stack is enough for a program of nothing else.
const STACK_BYTES: usize = 64 << 20;

/// A compiled program.
pub struct Program {
    pub(super) filter: Filter<Json>,
    /// Those of [`VARIABLES`] that it names.
    pub(super) variables: Vec<&'static str>,
    /// Whether it may have labels.
    pub(super) labels: bool,
    /// Keys of the object that it makes, if it is known to make one with no others.
    pub keys: Option<Vec<String>>,
}

impl Program {
    /// Compiles the text of the option `key`.
    pub fn compile(text: &str, key: &'static str) -> Result<Program, Wrong> {
        if text.len() > PROGRAM_BYTES_MAX {
            let message = format!("the program has {} bytes; at most {PROGRAM_BYTES_MAX} are allowed", text.len());
            return Err(Wrong::new(key, message));
        }
        if text.trim().is_empty() {
            return Err(Wrong::new(key, "the program is empty").hint("`.` is the record as it is"));
        }
        meter::keep_panics_silent();
        let failed = || Wrong::new(key, "this program cannot be compiled");
        thread::scope(|scope| {
            let compiler = thread::Builder::new().name("jq".into()).stack_size(STACK_BYTES);
            let compiler = compiler.spawn_scoped(scope, || compile(text).map_err(|flaw| flaw.wrong(text, key)));
            compiler.map_err(|_| failed())?.join().map_err(|_| failed())?
        })
    }
}

/// What is wrong with a program.
struct Flaw {
    offset: usize,
    message: String,
    hint: Option<String>,
}

impl Flaw {
    fn wrong(self, text: &str, key: &'static str) -> Wrong {
        let line = text.get(..self.offset).unwrap_or(text).matches('\n').count() + 1;
        let of_several = text.trim_end().contains('\n');
        let message = if of_several { format!("line {line}: {}", self.message) } else { self.message };
        Wrong { hint: self.hint, ..Wrong::new(key, message).at(self.offset) }
    }
}

fn compile(text: &str) -> Result<Program, Flaw> {
    let arena = Arena::default();
    let modules = Loader::new(defs()).load(&arena, File { code: text, path: () }).map_err(|errors| {
        let of_program = errors.into_iter().map(|(_, error)| error).next_back();
        of_program.map_or_else(|| unknown(text), |error| loading(text, error))
    })?;
    let variables: Vec<_> = VARIABLES.into_iter().filter(|name| text.contains(name)).collect();
    let compiler = Compiler::default().with_funs(funs()).with_global_vars(variables.iter().copied());
    let filter = compiler.compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        first.map_or_else(|| unknown(text), |(name, undefined)| compiling(text, name, &undefined))
    })?;
    let keys = load::parse(text, |parser| parser.term()).as_ref().and_then(keys);
    Ok(Program { filter, variables, labels: text.contains("label"), keys })
}

fn unknown(text: &str) -> Flaw {
    Flaw { offset: text.len(), message: "this program cannot be compiled".into(), hint: None }
}

fn loading(text: &str, error: load::Error<&str>) -> Flaw {
    let flaw = |expected: &str, found: &str| {
        let first = found.split_whitespace().next().unwrap_or_default();
        let shown: String = first.chars().take(20).collect();
        let found_words = if shown.is_empty() { "the end".into() } else { format!("`{shown}`") };
        let message = format!("expected {expected}, found {found_words}");
        Flaw { offset: place(text, found), message, hint: None }
    };
    match error {
        load::Error::Io(paths) => {
            let offset = paths.first().map_or(0, |(path, _)| place(text, path));
            let message = "a program cannot load modules or files".into();
            Flaw { offset, message, hint: Some("write its definitions here: `def name: ..; ..`".into()) }
        }
        load::Error::Lex(errors) => errors.into_iter().next().map_or_else(
            || unknown(text),
            |(expected, found)| {
                // The rest of the text was found where a bracket is to be closed: at its end.
                flaw(&format!("a {}", expected.as_str()), found)
            },
        ),
        load::Error::Parse(errors) => errors.into_iter().next().map_or_else(
            || unknown(text),
            |(expected, found)| {
                let expected = match expected.as_str() {
                    "term" => "a value or function",
                    "nothing" => "the end or an operator",
                    word if word.chars().all(|c| !c.is_alphabetic()) => return flaw(&format!("`{word}`"), found),
                    word => word,
                };
                flaw(expected, found)
            },
        ),
    }
}

fn compiling(text: &str, name: &str, undefined: &Undefined) -> Flaw {
    let (message, hint) = match undefined {
        Undefined::Var => {
            let known = nearest(name, VARIABLES).map(|known| format!("did you mean `{known}`?"));
            let known = known.unwrap_or_else(|| format!("known without `as` are {}", listed(&VARIABLES)));
            (format!("there is no variable `{name}`"), Some(known))
        }
        Undefined::Filter(arguments) => {
            let known = signatures();
            let counts: Vec<String> =
                known.iter().filter(|(known, _)| known == name).map(|(_, count)| count.to_string()).collect();
            if counts.is_empty() {
                let near = nearest(name, known.iter().map(|(known, _)| known.as_str()));
                let hint = match name {
                    "input" | "inputs" | "input_line_number" | "input_filename" => {
                        Some("a program sees one record at a time".into())
                    }
                    "localtime" | "strflocaltime" => Some("times are UTC here: `gmtime`, `strftime`".into()),
                    _ => near.map(|near| format!("did you mean `{near}`?")),
                };
                (format!("there is no function `{name}`"), hint)
            } else {
                (format!("`{name}` takes {} arguments, not {arguments}", counts.join(" or ")), None)
            }
        }
        undefined => (format!("there is no {} `{name}`", undefined.as_str()), None),
    };
    Flaw { offset: place(text, name), message, hint }
}

/// Where a piece of the text stands; the end for what is not of it.
fn place(text: &str, piece: &str) -> usize {
    let (start, at) = (text.as_ptr().addr(), piece.as_ptr().addr());
    if (start..=start + text.len()).contains(&at) { span(text, piece).start } else { text.len() }
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Names of all functions that are meant to be called, with their numbers of arguments.
fn signatures() -> Vec<(String, usize)> {
    let defs = defs().map(|def| (def.name.to_owned(), def.args.len()));
    let funs = funs().map(|(name, arguments, _)| (name.to_owned(), arguments.len()));
    let internal = |name: &str| name.ends_with(['_', '!']) || name.ends_with("_empty") || name.ends_with("_unchecked");
    let mut all: Vec<_> = defs.chain(funs).filter(|(name, _)| !internal(name)).collect();
    all.sort();
    all.dedup();
    all
}

/// The keys of the object that a term makes, whatever its input.
fn keys(term: &Term<&str>) -> Option<Vec<String>> {
    match term {
        Term::Obj(entries) => entries.iter().map(|(key, _)| literal(key)).collect(),
        Term::Def(_, then) => keys(then),
        Term::BinOp(_, BinaryOp::Pipe(_), then) => keys(then),
        _ => None,
    }
}

fn literal(key: &Term<&str>) -> Option<String> {
    match key {
        Term::Var(name) => name.strip_prefix('$').map(str::to_owned),
        Term::Str(None, parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    StrPart::Str(piece) => text.push_str(piece),
                    StrPart::Char(c) => text.push(*c),
                    StrPart::Term(_) => return None,
                }
            }
            Some(text)
        }
        _ => None,
    }
}
