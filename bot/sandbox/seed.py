"""The sandbox's threads, all invented for this project: ordinary conversations in three subreddits, and some difficult cases.

Times are in hours before the seeding, so that rules about age work at any time; everything else is fixed. Comments are in display order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

GONE = "[deleted]"  # the author that Reddit shows for a comment or submission if the account was deleted


@dataclass(frozen=True)
class Subreddit:
    """kind: public, private (403) or banned (404, Reddit's answer for a closed subreddit). bans_us: reading works, posting gives a 403."""

    name: str
    title: str
    kind: str = "public"
    bans_us: bool = False


@dataclass(frozen=True)
class Comment:
    author: str
    karma: int
    body: str
    replies: tuple[Comment, ...] = ()


@dataclass(frozen=True)
class Submission:
    subreddit: str
    hours_ago: float
    karma: int
    author: str
    title: str
    text: str = ""
    over_18: bool = False
    locked: bool = False
    archived: bool = False
    comments: list[Comment] = field(default_factory=list)


def says(author: str, karma: int, body: str, *replies: Comment) -> Comment:
    return Comment(author, karma, body, replies)


def _chain(length: int) -> Comment:
    """A chain of replies, deep enough for Reddit's «continue this thread»."""
    lines = [
        "Word association game, I start: library.",
        "Quiet.",
        "Snow.",
        "Boots.",
        "Mud.",
        "Garden.",
        "Tomatoes.",
        "Soup.",
        "Sunday.",
        "Nap.",
    ]
    comment: Comment | None = None
    for place in reversed(range(length)):
        comment = Comment(f"reader_{60 + place % 3}", 4 - place % 2, lines[place % len(lines)], (comment,) if comment else ())
    assert comment is not None
    return comment


SUBREDDITS = [
    Subreddit("sandbox_books", "Books we read, and books we meant to"),
    Subreddit("sandbox_home", "Cooking, fixing and gadgets at home"),
    Subreddit("sandbox_college", "Applying to and getting through university"),
    Subreddit("sandbox_members", "Reading is free, our account may not post", bans_us=True),
    Subreddit("sandbox_private", "By invitation", kind="private"),
    Subreddit("sandbox_closed", "Closed by the admins", kind="banned"),
]

LATELY_FINISHED = [
    "A history of salt. Much more exciting than it sounds, I promise.",
    "Frankenstein, for the first time. I did not expect to feel so sorry for the creature.",
    "A 900 page fantasy novel. It should have been 500 pages.",
    "A short book about lighthouses. I want to live in one now.",
    "My daughter's picture book about a bear who can't sleep, forty times.",
    "The Hobbit again. I read it every autumn.",
    "A cookbook, cover to cover. Does that count?",
    "The third detective novel in a row. I never guess who did it.",
    "Middlemarch. It took me five months and I miss everyone in it.",
    "A book on birds. Now I can't walk past a hedge without stopping.",
    "A thriller I bought at the station. I finished it before the train arrived.",
    "Poems by a friend of mine. Some of them were really good!",
    "Moby-Dick, and yes, I read all the whale chapters.",
    "A memoir by a long distance swimmer. I get cold just thinking about it.",
    "Something about the Roman roads. Dad gave it to me for Christmas.",
    "An old science fiction paperback. The future had a lot of cigarettes.",
    "A book of ghost stories, with the lights on.",
    "A novel in French, slowly, with a dictionary next to me.",
    "The manual of my new oven. Riveting stuff.",
    "A biography of a mathematician. I understood the parts without mathematics.",
    "Pride and Prejudice. Mr. Collins is the funniest man in English literature.",
    "A travel book from 1930. The prices made me cry.",
    "A graphic novel about a family moving to another country. I cried a bit.",
    "A book about sleep. I read it at 2 am, of course.",
    "Short stories, one each evening with tea. The best habit I started this year.",
    "A novel about a chess player. I have not touched my board since 2009.",
    "Half of Ulysses. Ask me again next year.",
    "A book about trees by a forester. He loves beeches a little too much.",
    "Dracula. The diary format made it so much fun.",
    "The sequel to a book I did not like. I don't know why either.",
]

SUBMISSIONS = [
    # --- sandbox_books: five rising submissions, one of them locked, and two slower ones ----------------------------------
    Submission(
        "sandbox_books",
        5.0,
        212,
        "reader_12",
        "What book got you back into reading after a long break?",
        "I used to read all the time as a kid and then just stopped. What was the book that did it for you?",
        comments=[
            says(
                "reader_3",
                48,
                "For me it was a short mystery novel. I finished it in one weekend and remembered how much I love reading. What kind of"
                " books did you like as a kid?",
                says("reader_12", 9, "Mostly adventure stories with maps in the front. Anything with a ship in it, really."),
                says("reader_21", 5, "Short books are the trick. Nobody gets back into reading with a thousand pages."),
            ),
            says("reader_40", 22, "I started listening to audiobooks on my way to work. Does that count as reading, do you think?"),
            says("reader_17", 7, 'My grandmother said "read what you like until you like to read", and she was right.'),
            says(GONE, 1, "[deleted]", says("reader_8", 3, "Why did you delete this? It was a lovely recommendation.")),
            says("AutoModerator", 1, "Welcome to the weekly thread. I am a bot, and this action was performed automatically."),
        ],
    ),
    Submission(
        "sandbox_books",
        3.0,
        96,
        "reader_25",
        "Do you ever give up on a book halfway through?",
        "I feel guilty every time, but life is short.",
        comments=[
            says(
                "reader_31",
                35,
                "I give every book 50 pages. If I don't care about anyone by then, I put it down and never feel bad about it.",
                says("reader_25", 6, "Fifty pages sounds fair. How many books did you put down this year?"),
            ),
            says("reader_9", 14, "Never! I have to know how it ends, even when I hate it. My friends think I'm crazy."),
            says("reader_44", -6, "People who don't finish books shouldn't be allowed to have opinions."),
            says(
                "reader_50", 3, "> life is short\n\nThis.\n\nAlso:\n\n* some books are bad\n* some books come too early\n\nBoth are fine."
            ),
        ],
    ),
    Submission(
        "sandbox_books",
        8.0,
        140,
        "reader_7",
        "What did you finish lately? One line each!",
        "Just the book and what you thought of it.",
        comments=[
            *(says(f"reader_{70 + place}", 31 - place, line) for place, line in enumerate(LATELY_FINISHED)),
            _chain(14),
        ],
    ),
    Submission(
        "sandbox_books",
        6.0,
        88,
        "reader_33",
        "E-reader or paper books for a long trip?",
        "Three weeks of trains and one small backpack. I love paper, but I also love my back.",
        comments=[
            says(
                "reader_18",
                27,
                "I was a paper person until I moved house three times in two years. Get an e-reader, your back will thank you. Which one"
                " are you looking at?",
            ),
            says("reader_5", 12, "Take one paper book and swap it at hostels along the way. You meet people that way too."),
            says("reader_29", 4, "قرأت روايتين على القارئ الإلكتروني في رحلتي الأخيرة وكان ذلك رائعًا 📚"),
        ],
    ),
    Submission(
        "sandbox_books",
        4.0,
        75,
        "reader_14",
        "Spoilers for the new series finale (locked, it got heated)",
        "",
        locked=True,
        comments=[
            says("reader_51", 19, "I thought the ending was perfect and I will hear nothing against it."),
            says("reader_52", 2, "Then you and I read different books."),
        ],
    ),
    Submission(
        "sandbox_books",
        21.0,
        12,
        "reader_26",
        "How do you sort your shelves?",
        "",
        comments=[
            says("reader_6", 5, "By colour. I know, I know. It looks wonderful and I can find nothing."),
            says("reader_53", 2, "By the date I bought them. It is like a diary."),
        ],
    ),
    Submission(
        "sandbox_books",
        24.0 * 210,
        460,
        "reader_2",
        "Your favourite first sentence of all time (archived)",
        "",
        archived=True,
        comments=[says("reader_54", 88, "It was a bright cold day in April, and the clocks were striking thirteen.")],
    ),
    # --- sandbox_home: five rising submissions, one of them NSFW, and a slower one ----------------------------------------
    Submission(
        "sandbox_home",
        4.0,
        180,
        "cook_4",
        "My bread never rises, what am I doing wrong?",
        "Same recipe three times, three bricks. Flour, water, salt, dry yeast, one hour next to the window.",
        comments=[
            says(
                "cook_11",
                41,
                "Next to the window is probably too cold this time of year. Try the oven with only the light on. How old is your yeast?",
                says("cook_4", 8, "It has been in the cupboard for at least a year. Is that too old?"),
            ),
            says("cook_19", 17, "Give it more time. My first loaves needed three hours in winter, not one."),
            says("cook_23", 3, "=1+1 loaves a week is what I get out of one packet of yeast."),
        ],
    ),
    Submission(
        "sandbox_home",
        7.0,
        121,
        "fixer_2",
        "What is the best cheap kitchen tool you ever bought?",
        "Under ten dollars, used every week.",
        comments=[
            says("cook_8", 52, "A bench scraper. I use it to move chopped onions, cut dough and clean the counter. What's yours?"),
            says(
                "cook_30",
                20,
                "A good peeler. I spent years fighting carrots with a bad one.\n\nThen I paid four dollars.\n\nWhy did I wait?",
            ),
            says("cook_12", 6, "Silicone spatula!!! 🍳🍳🍳 Gets every last bit out of the jar 😄"),
            says("deal_finder_bot", 4, "I found 3 similar items on sale near you."),
        ],
    ),
    Submission(
        "sandbox_home",
        2.0,
        64,
        "fixer_9",
        "Laptop fan sounds like a plane, can I clean it myself?",
        "Four years old, out of warranty. I have a small screwdriver and no experience.",
        comments=[
            says(
                "fixer_15",
                24,
                "You can. Take a picture before you remove each screw so you know where it goes, and hold the fan still while you blow out"
                " the dust.",
                says("fixer_9", 5, "Thank you! Do I need new thermal paste as well?"),
            ),
            says("fixer_22", 9, "Mine was the same and it was just cat hair. Do you have a cat?"),
            says("fixer_40", 2, "My notes say CLS first, then the text, [SEP] and the next text. Wrong thread, sorry!"),
        ],
    ),
    Submission(
        "sandbox_home",
        9.0,
        110,
        "cook_27",
        "Easy meals for one person that are not pasta?",
        "I live alone now and I am so tired of pasta.",
        comments=[
            says("cook_6", 38, "Fried rice with an egg on top. It takes ten minutes and uses up whatever vegetables you have left."),
            says(
                "cook_14",
                16,
                "I make a big pot of chili on Sunday and freeze it in small boxes. Do you have a freezer?",
                says("cook_27", 4, "A tiny one, but I could fit four boxes. How long does chili keep?"),
            ),
            says("cook_33", 2, "[removed]"),
            says(GONE, 1, "[removed]"),
            says("cook_35", 1, "   "),
        ],
    ),
    Submission(
        "sandbox_home",
        5.0,
        58,
        "fixer_31",
        "Cocktail names you can't say in front of your mother [NSFW]",
        "",
        over_18=True,
        comments=[says("fixer_32", 13, "I order them by pointing at the menu.")],
    ),
    Submission(
        "sandbox_home",
        20.0,
        15,
        "fixer_18",
        "Is a robot vacuum worth it in a small flat?",
        "",
        comments=[
            says("fixer_19", 7, "We love ours, but it eats socks. Do you have carpets or wooden floors?"),
            says("fixer_20", 3, "A broom never needs an update."),
        ],
    ),
    # --- sandbox_college: five rising submissions and a slower one --------------------------------------------------------
    Submission(
        "sandbox_college",
        6.0,
        190,
        "student_5",
        "How early did you start on your application essays?",
        "It is August and everyone in my class says they are already done. I have one sentence.",
        comments=[
            says(
                "student_16",
                44,
                "I started in October and got into my first choice, so don't panic. Write about something small that really happened to"
                " you. What is your one sentence?",
                says("student_5", 10, "It is about fixing my neighbour's bicycle. Is that too boring?"),
            ),
            says("student_20", 18, "Everyone who says they are done is lying. I rewrote mine nine times."),
            says("student_28", 5, "Let a teacher read it early. Mine found the real story in my third paragraph."),
        ],
    ),
    Submission(
        "sandbox_college",
        3.0,
        83,
        "student_11",
        "Is a B+ in chemistry going to ruin my chances?",
        "Everything else is fine. I just could not do titration.",
        comments=[
            says("student_7", 33, "No. One B+ is not going to ruin anything. They look at the whole picture. What do you want to study?"),
            says("student_13", 11, "I got a C in chemistry and I am studying biology now, so there's that."),
            says("student_48", -3, "Yes, it is over, learn to juggle."),
        ],
    ),
    Submission(
        "sandbox_college",
        8.0,
        104,
        "student_22",
        "How do you actually study for eight hours a day?",
        "I last forty minutes and then I reorganise my desk.",
        comments=[
            says(
                "student_30",
                46,
                "Nobody does eight hours of real studying. I do four blocks of an hour with my phone in another room, and it works better"
                " than anything else.",
                says("student_22", 7, "The phone in another room is a good idea. What do you do in the breaks?"),
            ),
            says("student_34", 15, "Go to the library. It is harder to reorganise somebody else's desk."),
            says("student_36", 3, ("Read, close the book, say it out loud, check. " * 220)[:10_000]),
        ],
    ),
    Submission(
        "sandbox_college",
        5.0,
        71,
        "student_41",
        "Living at home or in the dorms for the first year?",
        "Home is 50 minutes away by train and free. The dorm is expensive and fun.",
        comments=[
            says(
                "student_2",
                29,
                "I lived at home and saved a lot of money, but I missed out on making friends. If you can afford it, try the"
                " dorm for one year.",
            ),
            says("student_43", 13, "Fifty minutes is a good time to read on the train. I would stay home and visit friends on weekends."),
        ],
    ),
    Submission(
        "sandbox_college",
        2.0,
        47,
        "student_24",
        "Which laptop for a computer science degree?",
        "Budget is about 800. Do I need a fancy graphics card?",
        comments=[
            says(
                "student_38",
                21,
                "You don't need a fancy graphics card for classes. Get 16 GB of memory, a good keyboard and a long battery life.",
            ),
            says("student_39", 8, "I got a used business laptop for 400 and put Linux on it. What classes are you taking first?"),
        ],
    ),
    Submission(
        "sandbox_college",
        22.0,
        9,
        "student_45",
        "Do clubs matter?",
        "",
        comments=[says("student_46", 4, "Join one that you like and stay with it. Did you have one in mind?")],
    ),
    # --- sandbox_members: readable, but our account is banned there ------------------------------------------------------
    Submission(
        "sandbox_members",
        3.0,
        30,
        "member_1",
        "Meeting on Friday?",
        "",
        comments=[says("member_2", 6, "I will be there. Shall I bring cake?")],
    ),
]
