//! As much of JSON as the daemon's messages need: read in place, texts without escapes, whole numbers.

/// Deepest nesting that is read; messages have three levels.
const DEPTH_MAX: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Text(&'a str),
    Number(u64),
    Boolean(bool),
    List(Vec<Json<'a>>),
    Object(Vec<(&'a str, Json<'a>)>),
    /// Something that no message of ours needs: null, a fraction, a text with escapes.
    Other,
}

impl<'a> Json<'a> {
    /// Gives the value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => entries.iter().rev().find(|(one, _)| *one == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(is) => Some(*is),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

/// Reads a whole text.
pub(crate) fn parse(text: &str) -> Option<Json<'_>> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    (reader.at == text.len()).then_some(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes this byte, behind blanks.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(|text| text.map_or(Json::Other, Json::Text)),
            b't' => self.word("true", Json::Boolean(true)),
            b'f' => self.word("false", Json::Boolean(false)),
            b'n' => self.word("null", Json::Other),
            _ => self.digits(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        self.take(b'{')?;
        let mut entries = Vec::new();
        if self.take(b'}').is_some() {
            return Some(Json::Object(entries));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            // A key with escapes is none of ours.
            entries.extend(key.map(|key| (key, value)));
            if self.take(b',').is_none() {
                self.take(b'}')?;
                return Some(Json::Object(entries));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        self.take(b'[')?;
        let mut list = Vec::new();
        if self.take(b']').is_some() {
            return Some(Json::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            if self.take(b',').is_none() {
                self.take(b']')?;
                return Some(Json::List(list));
            }
        }
    }

    /// Reads a text; the inner `None` is one with escapes.
    fn string(&mut self) -> Option<Option<&'a str>> {
        self.take(b'"')?;
        let from = self.at;
        let mut plain = true;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    plain = false;
                    self.at += 2;
                }
                0..=31 => return None,
                _ => self.at += 1,
            }
        }
        let text = self.text.get(from..self.at)?;
        self.at += 1;
        Some(plain.then_some(text))
    }

    fn digits(&mut self) -> Option<Json<'a>> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = &self.text[from..self.at];
        match text.parse::<u64>() {
            Ok(number) if !text.starts_with('+') => Some(Json::Number(number)),
            _ => text.parse::<f64>().ok().map(|_| Json::Other),
        }
    }
}
