/** What only the real cloud can tell, and what of the design hangs on each answer. */
export interface Question {
  number: number;
  asks: string;
  decides: string;
}

export const questions: readonly Question[] = [
  {
    number: 1,
    asks: "what becomes of words that a second handle writes to a main process's standard input",
    decides: "whether we are right to write to none, and to talk through exec",
  },
  {
    number: 2,
    asks: "how large a message standard input takes, what output is kept for a late reader, how long an answer takes",
    decides: "pieces of 1 MiB to exec, and a reader from the first moment",
  },
  {
    number: 3,
    asks: "whether the older backend sends log items without data",
    decides: "that we read its log items ourselves, and not with the SDK's stream",
  },
  {
    number: 4,
    asks: "whether both backends share names, tags and one list",
    decides: "that one list is enough to find what runs, and that a name is taken once",
  },
  {
    number: 5,
    asks: "whether connect tokens work on both backends, how long they are valid, whether they keep a sandbox from idling",
    decides: "tunnels with a key of the session, and not connect tokens",
  },
  {
    number: 6,
    asks: "whether `sync` commits, a reload works on a read-only mount, how often commits come by themselves, whether SQLite tears",
    decides: "that metrics are committed with `sync`, and no database is on a volume",
  },
  {
    number: 7,
    asks: "what an identity token says of a sandbox",
    decides: "whether the proxy could prove who calls by more than the session's key",
  },
  {
    number: 8,
    asks: "whether outbound policies and sidecars work beside a GPU",
    decides: "a proxy in a sandbox of its own, and not a sidecar or Modal's own header replacement",
  },
  {
    number: 9,
    asks: "whether an agent that may reach one tunnel's name reaches it, and nothing else, and how long that takes",
    decides: "that the agent's network ends at the proxy's exact name",
  },
  {
    number: 10,
    asks: "how an end from outside looks, how soon it is told, and whether volumes are committed then",
    decides: "the words for an end, and that the last rows are not lost",
  },
  {
    number: 11,
    asks: "whether a build reaches the registries, keeps layers by their text, and how long the text may be",
    decides: "that our files are in the text of commands, up to 16 MiB",
  },
  {
    number: 12,
    asks: "with which code a main process ends that is terminated while it ends by itself",
    decides: "that 137 is an end from outside, and any other code the program's own",
  },
];
