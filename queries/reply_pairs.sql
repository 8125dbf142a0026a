-- title:      reply pairs of one month
-- grain:      one row per reply; the reply was written in [@month_start, @month_end)
-- dialect:    BigQuery; DuckDB runs the same text, translated by sqlglot
-- tables:     {comments}, {submissions}: names checked by bot.warehouse before they are put in
-- parameters: @lookback_start, @month_start, @month_end   INT64, UTC epoch seconds; the comment may be as old as @lookback_start
--             @subreddits            ARRAY<STRING>, lower case; empty means all
--             @with_submissions      BOOL: a submission (title, blank line, text) can be the thing replied to as well
--             @drop_deleted_authors  BOOL
-- columns:    subreddit, thread_id, submission, submission_karma, comment_id, comment, comment_karma, comment_utc,
--             reply_id, reply, reply_karma, reply_utc, depth
--             depth is the comment's: 0 directly under the submission, -1 the submission itself, NULL where its ancestors are older
-- rules:      no deleted, removed or empty body or title; no AutoModerator, no author whose name ends in «bot»; nobody answering
--             themselves. An id that stands in two tables counts once. Authors are used here and are not in the result.
WITH RECURSIVE
recent AS (
  SELECT id, parent_id, link_id, subreddit, author, body, score, created_utc
  FROM {comments}
  WHERE created_utc >= @lookback_start AND created_utc < @month_end
    AND (ARRAY_LENGTH(@subreddits) = 0 OR LOWER(subreddit) IN UNNEST(@subreddits))
  QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY created_utc, score, body) = 1
),
submission AS (
  SELECT id, title, selftext, author, score, created_utc
  FROM {submissions}
  WHERE id IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY created_utc, score, title) = 1
),
tree AS (
  SELECT id, 0 AS depth FROM recent WHERE STARTS_WITH(parent_id, 't3_')
  UNION ALL
  SELECT recent.id, tree.depth + 1 FROM tree JOIN recent ON recent.parent_id = tree.id WHERE tree.depth < 400
),
usable AS (
  SELECT * FROM recent
  WHERE LOWER(TRIM(body, ' \t\r\n')) NOT IN ('', '[deleted]', '[removed]', '[ removed by reddit ]', '[deleted by user]')
    AND LOWER(author) != 'automoderator' AND NOT ENDS_WITH(LOWER(author), 'bot')
    AND NOT (@drop_deleted_authors AND author = '[deleted]')
),
answerable AS (
  SELECT usable.id, usable.author, usable.body, usable.score, usable.created_utc, tree.depth
  FROM usable LEFT JOIN tree ON tree.id = usable.id
  UNION ALL
  SELECT id, author,
    CASE WHEN LOWER(TRIM(selftext, ' \t\r\n')) IN ('', '[deleted]', '[removed]', '[ removed by reddit ]', '[deleted by user]') THEN title
      ELSE CONCAT(title, '\n\n', selftext) END,
    score, created_utc, -1
  FROM submission
  WHERE @with_submissions
    AND LOWER(TRIM(title, ' \t\r\n')) NOT IN ('', '[deleted]', '[removed]', '[ removed by reddit ]', '[deleted by user]')
    AND LOWER(author) != 'automoderator' AND NOT ENDS_WITH(LOWER(author), 'bot')
    AND NOT (@drop_deleted_authors AND author = '[deleted]')
)
SELECT
  reply.subreddit AS subreddit,
  reply.link_id AS thread_id,
  COALESCE(submission.title, '') AS submission,
  submission.score AS submission_karma,
  answerable.id AS comment_id,
  answerable.body AS comment,
  answerable.score AS comment_karma,
  answerable.created_utc AS comment_utc,
  reply.id AS reply_id,
  reply.body AS reply,
  reply.score AS reply_karma,
  reply.created_utc AS reply_utc,
  answerable.depth AS depth
FROM usable AS reply
JOIN answerable ON answerable.id = reply.parent_id
LEFT JOIN submission ON submission.id = reply.link_id
WHERE reply.created_utc >= @month_start AND reply.id != answerable.id
  AND (reply.author = '[deleted]' OR reply.author != answerable.author)
ORDER BY reply_utc, reply_id
