"""check: what would the gates say of these lines? For trying them on texts of one's own.

Reads  any CSV with some of the columns subreddit, title, flair, comment, reply.
Writes the same rows in the same order with two more columns, the name of a refusal or empty: may_answer_refusal, of subreddit, title, flair
       and comment (a `where.Reason`), and may_say_refusal, of the reply beside title and comment (a `what.Unfit`).

    python run_bot.py check --in lines.csv --out checked.csv

They are the functions that `fetch`, `choose` and `submit` use, with the same settings. Nothing is asked of Reddit, and no ledger is needed.
"""
