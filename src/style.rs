//! Whether to write colours.

/// Whether something that `is_terminal` gets colours: not if `NO_COLOR` is set to anything, as <https://no-color.org> has it.
#[must_use]
pub fn coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
