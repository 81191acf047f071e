// What the servers for Node and for Bun share: the statements, who may ask, cursors, entity tags and times.

import { createHmac } from "node:crypto";

const env = process.env;

export const SECRET = env.SECRET_KEY;
export const PORT = Number(env.PORT);
export const PUBLIC_READS = env.PUBLIC_READS === "true";
export const BODY_LIMIT = 1024 * 1024;
export const DEFAULT_LIMIT = 10;
export const CLAIMS = ["iss", "aud", "sub", "iat", "exp", "jti", "sid"];
export const CACHED_TOKENS = 10_000;
export const CONNECTION = { TimeZone: "UTC", statement_timeout: "5000", plan_cache_mode: "force_generic_plan" };

// What each response has beside its own headers.
export const HEADERS = {
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "private, no-cache",
  "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Frame-Options": "DENY",
  Vary: "Origin, Authorization",
};

// The account of a session that has not ended: one row, or none where the caller is refused.
export const CALLER = `SELECT u.id FROM sessions s JOIN users u ON u.id = s.user_id
  WHERE s.id = $1 AND u.id = $2 AND u.is_active AND s.ends_at > now()`;

// Statements about posts. `caller` selects a row with the caller's id, `id` is the parameter that holds this id, and
// the parameters of a question are numbered from `next` on.
export function statements(caller, id, next) {
  const parameter = (index) => `$${next + index}`;
  const view = `p.id, p.title, p.content, p.published, p.created_at::text AS created_at,
    p.updated_at::text AS updated_at, p.version, p.owner_id, u.username, u.created_at::text AS owner_created_at,
    p.upvotes, p.downvotes,
    coalesce((SELECT dir FROM votes WHERE post_id = p.id AND user_id = ${id}), 0)::int AS my_vote`;
  const visible = `p.id = ${parameter(0)} AND (p.published OR p.owner_id = ${id})`;

  // Published posts and the caller's drafts: each a scan of an index that stops at the limit. The limit is part of the
  // text, since PostgreSQL keeps no plan for a parameter there. One row more than wanted tells whether a page follows.
  const list = ({ limit, drafts, owner, after }) => {
    let index = 0;
    const conditions = [
      owner ? `AND owner_id = ${parameter(index++)}::bigint` : "",
      after ? `AND (created_at, id) < (${parameter(index++)}::text::timestamptz, ${parameter(index++)}::bigint)` : "",
    ].join(" ");
    const scan = (which) =>
      `(SELECT * FROM posts WHERE ${which} ${conditions} ORDER BY created_at DESC, id DESC LIMIT ${limit + 1})`;
    const own = scan(`owner_id = ${id} AND NOT published`);
    const both = `${scan("published")} UNION ALL ${own} ORDER BY created_at DESC, id DESC LIMIT ${limit + 1}`;
    return `SELECT ${view} FROM (${drafts ? own : both}) p JOIN users u ON u.id = p.owner_id WHERE (SELECT true FROM (${caller}) a)
      ORDER BY p.created_at DESC, p.id DESC`;
  };
  const lists = new Map();
  return {
    // A name and a text for each kind of list, written at its first use.
    list(kind) {
      const name = `list ${kind.limit} ${Boolean(kind.drafts)} ${Boolean(kind.owner)} ${Boolean(kind.after)}`;
      let text = lists.get(name);
      if (text === undefined) lists.set(name, (text = list(kind)));
      return { name, text };
    },
    // A row of nulls says that the caller may not see the post; no row, that the caller is refused.
    get: `SELECT ${view} FROM (${caller}) a LEFT JOIN posts p ON ${visible} LEFT JOIN users u ON u.id = p.owner_id`,
    add: `WITH p AS (
        INSERT INTO posts
          (owner_id, title, content, published, created_at, updated_at, version, upvotes, downvotes, score, hot)
        SELECT a.id, ${parameter(0)}::text, ${parameter(1)}::text, ${parameter(2)}::bool, now(), now(), 1, 0, 0, 0,
          extract(epoch FROM now()) / 45000
        FROM (${caller}) a RETURNING *
      ), t AS (
        INSERT INTO titles (post_id, title_key, title_folded) SELECT id, ${parameter(3)}::text, ${parameter(3)}::text FROM p
      )
      SELECT ${view} FROM p JOIN users u ON u.id = p.owner_id`,
    // The vote's row is locked before the post's. A changed vote had the other direction, so it counts twice. No row says
    // that nothing changed: the tally then tells why.
    vote: `WITH cast_vote AS (
        INSERT INTO votes (post_id, user_id, dir, created_at)
        SELECT p.id, a.id, ${parameter(1)}::int2, now() FROM (${caller}) a JOIN posts p ON ${visible}
        ON CONFLICT (post_id, user_id) DO UPDATE SET dir = excluded.dir, created_at = excluded.created_at
          WHERE votes.dir <> excluded.dir
        RETURNING dir, xmax = 0 AS added
      ), counted AS (
        SELECT added, (dir = 1)::int - (dir = -1 AND NOT added)::int AS up,
          (dir = -1)::int - (dir = 1 AND NOT added)::int AS down FROM cast_vote
      )
      UPDATE posts SET upvotes = upvotes + up, downvotes = downvotes + down, score = score + up - down,
        hot = sign(score + up - down) * log(greatest(abs(score + up - down), 1)::float8)
          + extract(epoch FROM created_at)::float8 / 45000
      FROM counted WHERE id = ${parameter(0)} RETURNING upvotes, downvotes, added`,
    tally: `SELECT p.id, p.upvotes, p.downvotes FROM (${caller}) a LEFT JOIN posts p ON ${visible}`,
  };
}

// Where the account is known already, or is 0 for a reader without one.
export const ofAccount = statements("SELECT $1::bigint AS id", "$1", 2);

// Connections are in UTC and times keep their microseconds: 2026-11-23 21:14:23.726665+00
export const moment = (text) => `${text.slice(0, 10)}T${text.slice(11, -3)}Z`;

export const entityTag = (post) =>
  `"${post.version}.${post.upvotes}.${post.downvotes}.${post.my_vote}.${post.username}"`;

const signature = (text) => createHmac("sha256", SECRET).update(text).digest("base64url").slice(0, 22);

export function positionOf(cursor) {
  const [position, signed] = cursor.split(".");
  return signature(position) === signed ? JSON.parse(Buffer.from(position, "base64url").toString()) : null;
}

function cursorAfter(post) {
  const position = Buffer.from(JSON.stringify([post.created_at, post.id])).toString("base64url");
  return `${position}.${signature(position)}`;
}

// The header Link of a page, whose last post is given if another page follows.
export function links({ limit, drafts, owner }, last) {
  const path = `/posts?limit=${limit}${drafts ? "&published=false" : ""}${owner ? `&owner_id=${owner}` : ""}`;
  const first = `<${path}>; rel="first"`;
  return last ? `<${path}&cursor=${cursorAfter(last)}>; rel="next", ${first}` : first;
}

export const voteMessage = (added) => (added ? "successfully added vote" : "successfully changed vote");
export const UNCHANGED = "vote unchanged";

// Status, type, title, detail, and the challenge of a 401.
export const PROBLEMS = {
  notAuthenticated: [401, "not-authenticated", "Not authenticated", "sign in", "Bearer"],
  invalidToken: [401, "invalid-token", "Invalid token", "sign in again", 'Bearer error="invalid_token"'],
  invalidCursor: [422, "invalid-cursor", "Invalid cursor", "start again without it"],
  postNotFound: (id) => [404, "post-not-found", "Post not found", `post with id: ${id} not found`],
};
