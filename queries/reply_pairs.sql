-- title:      reply pairs of one month
-- grain:      one row per reply that was written in [@month_start, @month_end)
-- dialect:    BigQuery; translated by sqlglot for DuckDB
-- tables:     {comments}, {submissions}: inserted by bot.corpus.warehouse. Ids have no prefix, as in the dumps; parent_id and link_id have
--             the prefixes t1_ and t3_.
-- parameters: @lookback_start, @month_start, @month_end   INT64, UTC epoch seconds; comments older than @lookback_start are ignored
--             @subreddits             ARRAY<STRING>, lower case; empty means all
--             @with_comments, @with_submissions   BOOL: allowed parents; the text of a submission is its title, a blank line and its body
--             @drop_deleted_authors   BOOL
--             @gone                   STRING, regular expression for deleted or empty bodies
--             @not_a_bot, @bot_name   STRING, regular expressions: parts to remove from a user name; what the rest matches if it is a bot's
--             @bots                   ARRAY<STRING>, further user names of bots, lower case
-- columns:    rule, those of bot.schema.Pair, submitter_known (FALSE if the submission is missing), and cross_month (TRUE if the comment is
--             older than @month_start).
--             rule is '' for a pair; otherwise it is the reason why there is no pair, and the texts are NULL:
--             parent_not_found (older than @lookback_start, in another thread, or missing), own_parent, deleted_reply, deleted_comment,
--             bot_reply, bot_comment, self_reply (to the same author), submitter_reply (by the author of the submission), deleted_author,
--             duplicate_id (another row with the same id; the oldest one is used).
--             depth is that of the comment: 0 directly under the submission, -1 for the submission itself, NULL if an ancestor is missing
--             or if there are more than 400 (BigQuery limits recursion to 500 iterations)
-- The result contains no author names.
WITH RECURSIVE
found AS (
  SELECT
    CONCAT('t1_', id) AS id, COALESCE(parent_id, '') AS parent_id, COALESCE(link_id, '') AS link_id, subreddit,
    COALESCE(author, '[deleted]') AS author, COALESCE(body, '') AS body, score, created_utc
  FROM {comments} AS comments
  WHERE id IS NOT NULL AND created_utc >= @lookback_start AND created_utc < @month_end
    AND (ARRAY_LENGTH(@subreddits) = 0 OR LOWER(subreddit) IN UNNEST(@subreddits))
),
doubled AS (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY created_utc, score, body, parent_id, link_id, author) AS copy
  FROM found
  WHERE id IN (SELECT id FROM found GROUP BY id HAVING COUNT(*) > 1)
),
recent AS (
  SELECT id, parent_id, link_id, subreddit, author, body, score, created_utc FROM found WHERE id NOT IN (SELECT id FROM doubled)
  UNION ALL
  SELECT id, parent_id, link_id, subreddit, author, body, score, created_utc FROM doubled WHERE copy = 1
),
submission AS (
  SELECT
    CONCAT('t3_', id) AS id, COALESCE(title, '') AS title, COALESCE(selftext, '') AS selftext, COALESCE(author, '[deleted]') AS author,
    score, created_utc
  FROM {submissions} AS submissions
  WHERE id IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY created_utc, score, title) = 1
),
answered AS (
  SELECT id, parent_id, link_id FROM recent WHERE id IN (SELECT parent_id FROM recent)
),
tree AS (
  SELECT id, link_id, 0 AS depth FROM answered WHERE parent_id = link_id
  UNION ALL
  SELECT answered.id, answered.link_id, tree.depth + 1
  FROM tree JOIN answered ON answered.parent_id = tree.id AND answered.link_id = tree.link_id
  WHERE tree.depth < 400
),
parent AS (
  SELECT recent.id, recent.link_id, recent.author, recent.body, recent.score, recent.created_utc, tree.depth
  FROM recent
  JOIN answered ON answered.id = recent.id
  LEFT JOIN tree ON tree.id = recent.id AND tree.link_id = recent.link_id
  WHERE @with_comments
  UNION ALL
  SELECT
    id, id AS link_id, author,
    CASE
      WHEN REGEXP_CONTAINS(title, @gone) THEN ''
      WHEN REGEXP_CONTAINS(selftext, @gone) THEN title
      ELSE CONCAT(title, '\n\n', selftext)
    END,
    score, created_utc, -1
  FROM submission
  WHERE @with_submissions
),
judged AS (
  SELECT
    CASE
      WHEN reply.id = reply.parent_id THEN 'own_parent'
      WHEN REGEXP_CONTAINS(reply.body, @gone) THEN 'deleted_reply'
      WHEN REGEXP_CONTAINS(REGEXP_REPLACE(reply.author, @not_a_bot, '_'), @bot_name) OR LOWER(reply.author) IN UNNEST(@bots) THEN 'bot_reply'
      WHEN parent.id IS NULL THEN 'parent_not_found'
      WHEN REGEXP_CONTAINS(parent.body, @gone) THEN 'deleted_comment'
      WHEN REGEXP_CONTAINS(REGEXP_REPLACE(parent.author, @not_a_bot, '_'), @bot_name) OR LOWER(parent.author) IN UNNEST(@bots) THEN 'bot_comment'
      WHEN @drop_deleted_authors AND '[deleted]' IN (reply.author, parent.author) THEN 'deleted_author'
      WHEN reply.author = parent.author AND reply.author != '[deleted]' THEN 'self_reply'
      WHEN reply.author = submission.author AND reply.author != '[deleted]' THEN 'submitter_reply'
      ELSE ''
    END AS rule,
    reply.subreddit, reply.link_id, submission.title, submission.score AS submission_karma,
    reply.parent_id, parent.body AS comment, parent.score AS comment_karma, parent.created_utc AS comment_utc,
    reply.id, reply.body AS reply, reply.score AS reply_karma, reply.created_utc AS reply_utc, parent.depth,
    submission.id IS NOT NULL AS submitter_known, parent.created_utc < @month_start AS cross_month
  FROM recent AS reply
  LEFT JOIN parent ON parent.id = reply.parent_id AND parent.link_id = reply.link_id
  LEFT JOIN submission ON submission.id = reply.link_id
  WHERE reply.created_utc >= @month_start
    AND ((@with_comments AND NOT STARTS_WITH(reply.parent_id, 't3_')) OR (@with_submissions AND STARTS_WITH(reply.parent_id, 't3_')))
)
SELECT
  rule,
  subreddit,
  link_id AS thread_id,
  CASE WHEN rule = '' THEN COALESCE(title, '') END AS submission,
  submission_karma,
  parent_id AS comment_id,
  CASE WHEN rule = '' THEN comment END AS comment,
  comment_karma,
  comment_utc,
  id AS reply_id,
  CASE WHEN rule = '' THEN reply END AS reply,
  reply_karma,
  reply_utc,
  depth,
  submitter_known,
  cross_month
FROM judged
UNION ALL
SELECT 'duplicate_id', subreddit, link_id, NULL, NULL, parent_id, NULL, NULL, NULL, id, NULL, score, created_utc, NULL, NULL, NULL
FROM doubled
WHERE copy > 1 AND created_utc >= @month_start
  AND ((@with_comments AND NOT STARTS_WITH(parent_id, 't3_')) OR (@with_submissions AND STARTS_WITH(parent_id, 't3_')))
