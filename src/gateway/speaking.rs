//! Speech that is being made. Notes with the same speech wait for the first of them, and then use what it stored, or end
//! as it did.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::model::problem::Problem;

/// The reason why a text was not spoken.
#[derive(Clone, Debug)]
pub struct Unspoken {
    pub problem: Box<Problem>,
    /// Whether asking again may help.
    pub passes: bool,
    pub retry_after: Option<Duration>,
}

type Ended = Result<(), Unspoken>;

#[derive(Debug, Default)]
pub struct Speaking(Mutex<HashMap<String, watch::Receiver<Option<Ended>>>>);

/// The turn to let a server speak.
pub enum Turn<'a> {
    /// The caller's. All others wait until the flight ends.
    Mine(Flight<'a>),
    /// It was another note's, which has ended like this.
    Over(Ended),
}

/// The right to let a server speak. If it is dropped without an end, the next note in line gets it.
pub struct Flight<'a> {
    speaking: &'a Speaking,
    key: String,
    end: watch::Sender<Option<Ended>>,
}

impl Flight<'_> {
    /// Tells all who wait. After a success the speech has to be stored already.
    pub fn end(self, ended: Ended) {
        self.end.send_replace(Some(ended));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.speaking.lock().remove(&self.key);
    }
}

impl Speaking {
    /// Returns the turn for the speech with this key at once, or waits until the note that has it is done.
    pub async fn turn(&self, key: &str) -> Turn<'_> {
        loop {
            let mut waiting = {
                let mut flights = self.lock();
                match flights.get(key) {
                    Some(flight) => flight.clone(),
                    None => {
                        let (end, waiting) = watch::channel(None);
                        flights.insert(key.to_owned(), waiting);
                        return Turn::Mine(Flight { speaking: self, key: key.to_owned(), end });
                    }
                }
            };
            if let Ok(ended) = waiting.wait_for(Option::is_some).await
                && let Some(ended) = ended.clone()
            {
                return Turn::Over(ended);
            }
        }
    }

    /// The map contains plain values, which a panic cannot leave half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Ended>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::code::Code;

    fn mine(turn: Turn<'_>) -> Flight<'_> {
        match turn {
            Turn::Mine(flight) => flight,
            Turn::Over(_) => panic!("it is another's turn"),
        }
    }

    #[tokio::test]
    async fn one_note_speaks_and_the_others_end_as_it_did() {
        let speaking = Speaking::default();
        let first = mine(speaking.turn("a").await);
        mine(speaking.turn("b").now_or_never().expect("another speech"));
        let mut second = Box::pin(speaking.turn("a"));
        assert!(futures_util::poll!(&mut second).is_pending());
        let problem = Box::new(Problem::new(Code::SpeechUnavailable, "no"));
        first.end(Err(Unspoken { problem, passes: true, retry_after: None }));
        let Turn::Over(Err(unspoken)) = second.await else { panic!("it is told of the failure") };
        assert!(unspoken.passes);
        mine(speaking.turn("a").now_or_never().expect("a later note asks anew"));
        assert_eq!(speaking.lock().len(), 0, "no flight is left behind");
    }

    #[tokio::test]
    async fn flight_that_is_given_up_is_taken_over() {
        let speaking = Speaking::default();
        let first = mine(speaking.turn("a").await);
        let mut second = Box::pin(speaking.turn("a"));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        mine(second.await);
    }
}
