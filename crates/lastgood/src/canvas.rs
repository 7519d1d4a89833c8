//! A part of the terminal that is drawn again and again in place; what stands above it stays.

use console::Term;

/// Lines at the end of the terminal. The cursor waits below them, so that whatever ends the program leaves them whole.
pub(crate) struct Canvas {
    term: Term,
    /// Columns of each line that is drawn now.
    drawn: Vec<usize>,
}

impl Canvas {
    /// Takes the terminal that stdout is; none if it is something else.
    pub(crate) fn of_stdout() -> Option<Self> {
        let term = Term::stdout();
        term.is_term().then_some(Self { term, drawn: Vec::new() })
    }

    /// Gives how many lines there is room for: what leaves the screen at its top can't be drawn again.
    pub(crate) fn lines_max(&self) -> usize {
        usize::from(self.term.size().0).saturating_sub(1)
    }

    /// Replaces what was drawn; lines are cut to the terminal's width, and [`Self::lines_max`] of them are drawn.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        let columns = usize::from(self.term.size().1).max(1);
        // A terminal that became narrower has broken the lines that are there.
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        self.drawn.clear();
        let mut text = String::from("\r");
        if rows > 0 {
            text += &format!("\x1b[{rows}A");
        }
        for line in lines.iter().take(self.lines_max()) {
            let line = console::truncate_str(line, columns, "…");
            self.drawn.push(console::measure_text_width(&line));
            text += &format!("{line}\x1b[K\r\n");
        }
        text += "\x1b[J";
        // One write, so that no half of it is ever seen. A terminal that is gone ends the program by its signal.
        let _ = self.term.write_str(&text).and_then(|()| self.term.flush());
    }
}
