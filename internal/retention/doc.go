// Package retention decides which backups and which WAL are kept, and says why. It is
// pure: what there is, the policy and the time go in, decisions come out.
//
// # Backups
//
// A backup is kept while at least one rule keeps it:
//
//	window         it ended within the recovery window, or recovery to a moment in the
//	               window begins with it: the newest good one before the window, of each
//	               timeline that has WAL in the window
//	hourly … yearly  it stands for one of the last so many hours, days, weeks (ISO), months
//	               or years that have a backup, by the calendar of the policy's time zone
//	minimum        it is one of the newest so many good ones of its place
//	last           it is the newest good one of its place, or the newest at all
//	verified       it is the newest of its place that was read or restored, and was sound
//	held           somebody holds it
//	in-use         somebody restores it, or did a moment ago
//	parent-in-use  a backup under way continues it
//	future         it ended after now: the clock is wrong, and nothing can be said
//
// A backup is good unless a verification found it damaged, pages were damaged when it was
// taken, or its own WAL is not there. Where one of several is chosen, a good one comes
// before one that is not, one that was verified before one that was not, a higher level
// before a lower, and then the newest.
//
// An hour, day and so on counts as one of the last only if it has a good backup; beside
// those, the last so many at all are kept too, so that a week of damaged backups neither
// displaces the sound ones before it nor goes itself.
//
// # The cluster and its places
//
// A cluster's history in time is one, though its backups may lie in several places (after
// a takeover, pg_upgrade, a restored copy), whose timelines and positions do not compare.
// So everything is ordered by time. Which hours, days and so on are the last is counted
// over the whole cluster, so that places that ended age out; but one place never stands
// for another: each keeps its own backup of such a day. last, minimum and verified are
// counted in each place: the last good backup of a place never goes by policy.
//
// # Now
//
// The window is counted back from the newest moment that the repository knows of, a backup
// or a segment, if that is before now: where backups and archiving have stopped, nothing
// slides out of the window while nobody looks, and where only the clock of who decides runs
// ahead, that takes nothing away. A backup that was taken, or WAL that came, by a clock that
// ran ahead does move the window, if the clock of who decides runs ahead, too: nothing here
// can tell that from time that has passed. Who removes looks for such leaps, and asks. A
// backup under way widens the window to before its beginning.
//
// # WAL
//
// WAL is kept from the backup that the window needs on, without a gap, along every timeline
// that has WAL in the window; and from each backup in use on. Of older backups the WAL from
// start to stop is kept, which makes them consistent. Where no good backup lies before the
// window, all WAL of the timeline is kept, so none goes before a place's first backup is
// older than the window. Where something cannot be read, all that it might need is kept.
//
// # What holds
//
// With one policy, the same verifications and a clock that does not go back: deciding and
// removing twice removes nothing the second time; and doing it often leaves at least what
// doing it once at the end leaves. With a clock that goes back nothing more is removed.
// It does not hold across verifications: a backup that was chosen unverified may later be
// found damaged, when those it stood for are gone. Nor does it across policies: what a
// narrower one removed, a wider one does not bring back.
package retention
