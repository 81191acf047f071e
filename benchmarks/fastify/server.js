// Hand-written Node server: Fastify, pg and SQL, on Agora's own tables. It does the work that
// Agora does for these routes: token, session and account judged on every request, drafts hidden, counters and rank
// kept, entity tags, signed cursors. Settings: DATABASE (name) and libpq's own, SECRET_KEY, PORT.

import { createHmac } from "node:crypto";
import { createVerifier } from "fast-jwt";
import Fastify from "fastify";
import pg from "pg";

pg.types.setTypeParser(pg.types.builtins.INT8, Number);
// timestamptz, in UTC as the connections are, keeps its microseconds: 2026-11-23 21:14:23.726665+00
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => text.replace(" ", "T").replace("+00", "Z"));

const pool = new pg.Pool({
  max: Number(process.env.POOL ?? 10),
  options: "-c timezone=UTC -c statement_timeout=5000",
});

// Prepared once per connection, by name.
const statement = (name, text) => (...values) => pool.query({ name, text, values });

const findActor = statement(
  "actor",
  `SELECT u.id, u.role FROM sessions s JOIN users u ON u.id = s.user_id
   WHERE s.id = $1 AND u.id = $2 AND u.is_active AND s.ends_at > now()`,
);

const VIEW = `p.id, p.title, p.content, p.published, p.created_at, p.updated_at, p.version, p.owner_id, u.username,
  u.created_at AS owner_created_at, p.upvotes, p.downvotes,
  coalesce((SELECT dir FROM votes WHERE post_id = p.id AND user_id = $1), 0) AS my_vote`;
const OWNER = `JOIN users u ON u.id = p.owner_id`;

const getPost = statement(
  "get",
  `SELECT ${VIEW} FROM posts p ${OWNER} WHERE p.id = $2 AND (p.published OR p.owner_id = $1)`,
);

// Published posts and one's own drafts, each a walk down an index. The limit stands in the text: for a parameter
// PostgreSQL keeps no plan, and planning takes several times as long as walking.
const page = (after) => (limit) => `SELECT ${VIEW} FROM (
    (SELECT * FROM posts WHERE published ${after} ORDER BY created_at DESC, id DESC LIMIT ${limit})
    UNION ALL
    (SELECT * FROM posts WHERE owner_id = $1 AND NOT published ${after} ORDER BY created_at DESC, id DESC LIMIT ${limit})
  ) p ${OWNER} ORDER BY p.created_at DESC, p.id DESC LIMIT ${limit}`;
const pages = (name, text) => Array.from({ length: 102 }, (_, limit) => statement(`${name} ${limit}`, text(limit)));
const firstPage = pages("first page", page(""));
const nextPage = pages("next page", page("AND (created_at, id) < ($2, $3)"));

const addPost = statement(
  "add",
  `WITH p AS (
     INSERT INTO posts (owner_id, title, content, published, created_at, updated_at, version, upvotes, downvotes, score, hot)
     VALUES ($1, $2, $3, $4, now(), now(), 1, 0, 0, 0, extract(epoch FROM now()) / 45000) RETURNING *
   ), t AS (INSERT INTO titles (post_id, title_key) SELECT id, $5 FROM p)
   SELECT p.*, u.username, u.created_at AS owner_created_at, 0 AS my_vote FROM p JOIN users u ON u.id = p.owner_id`,
);

// The row of the vote is locked first, then the post's: a changed vote was the other way, or it would not have changed.
const castVote = statement(
  "vote",
  `WITH cast_vote AS (
     INSERT INTO votes (post_id, user_id, dir, created_at)
     SELECT id, $1, $3, now() FROM posts WHERE id = $2 AND (published OR owner_id = $1)
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
   FROM counted WHERE id = $2 RETURNING upvotes, downvotes, added`,
);
const tally = statement(
  "tally",
  "SELECT upvotes, downvotes FROM posts WHERE id = $2 AND (published OR owner_id = $1)",
);

const SECRET = process.env.SECRET_KEY;
const verify = createVerifier({
  key: SECRET,
  algorithms: ["HS256"],
  allowedIss: "agora",
  allowedAud: "agora",
  requiredClaims: ["iss", "aud", "sub", "iat", "exp", "jti", "sid"],
  cache: 10_000,
});

class Problem extends Error {
  constructor(status, slug, title, detail) {
    super(detail);
    Object.assign(this, { status, slug, title });
  }
}

const notFound = (id) => new Problem(404, "post-not-found", "Post not found", `post with id: ${id} not found`);

async function signedIn(request, reply) {
  reply.header("X-Request-ID", request.id);
  reply.header("X-Content-Type-Options", "nosniff");
  reply.header("Cache-Control", "private, no-cache");
  reply.header("Vary", "Authorization");
  const header = request.headers.authorization;
  if (!header?.startsWith("Bearer ")) throw new Problem(401, "not-authenticated", "Not authenticated", "sign in");
  let claims;
  try {
    claims = verify(header.slice(7));
  } catch {
    throw new Problem(401, "invalid-token", "Invalid token", "sign in again");
  }
  const { rows } = await findActor(Number(claims.sid), Number(claims.sub));
  if (rows.length === 0) throw new Problem(401, "invalid-token", "Invalid token", "sign in again");
  request.actor = rows[0];
}

const sign = (text) => createHmac("sha256", SECRET).update(text).digest("base64url").slice(0, 22);

function cursorAfter(post) {
  const place = Buffer.from(JSON.stringify([post.created_at, post.id])).toString("base64url");
  return `${place}.${sign(place)}`;
}

function placeOf(cursor) {
  const [place, signature] = cursor.split(".");
  if (sign(place) !== signature) throw new Problem(422, "invalid-cursor", "Invalid cursor", "start again without it");
  return JSON.parse(Buffer.from(place, "base64url").toString());
}

const shown = (row) => ({
  ...row,
  owner: { id: row.owner_id, username: row.username, created_at: row.owner_created_at },
  votes: row.upvotes - row.downvotes,
});

const tag = (row) => `"${row.version}.${row.upvotes}.${row.downvotes}.${row.my_vote}.${row.username}"`;

const moment = { type: "string" };
const id = { type: "integer" };
const Post = {
  type: "object",
  properties: {
    id,
    title: { type: "string" },
    content: { type: "string" },
    published: { type: "boolean" },
    created_at: moment,
    updated_at: moment,
    version: id,
    owner_id: id,
    owner: {
      type: "object",
      properties: { id, username: { type: "string", nullable: true }, created_at: moment },
    },
    votes: id,
    upvotes: id,
    downvotes: id,
    my_vote: id,
  },
};
const Receipt = {
  type: "object",
  properties: { message: { type: "string" }, post_id: id, dir: id, votes: id, upvotes: id, downvotes: id },
};
const postId = { type: "object", properties: { id: { type: "integer", minimum: 0 } } };

const app = Fastify({ bodyLimit: 1024 * 1024, requestIdHeader: "x-request-id", keepAliveTimeout: 60_000 });
app.decorateRequest("actor", null);
app.addHook("onRequest", signedIn);

app.get(
  "/posts",
  {
    schema: {
      querystring: {
        type: "object",
        properties: { limit: { type: "integer", minimum: 1, maximum: 100, default: 10 }, cursor: { type: "string" } },
      },
      response: { 200: { type: "array", items: Post } },
    },
  },
  async (request, reply) => {
    const { limit, cursor } = request.query;
    // One more than asked for tells whether there is another page.
    const { rows } = cursor
      ? await nextPage[limit + 1](request.actor.id, ...placeOf(cursor))
      : await firstPage[limit + 1](request.actor.id);
    const links = [`</posts?limit=${limit}>; rel="first"`];
    if (rows.length > limit) {
      rows.pop();
      links.unshift(`</posts?limit=${limit}&cursor=${cursorAfter(rows.at(-1))}>; rel="next"`);
    }
    reply.header("Link", links.join(", "));
    return rows.map(shown);
  },
);

app.get("/posts/:id", { schema: { params: postId, response: { 200: Post } } }, async (request, reply) => {
  const { rows } = await getPost(request.actor.id, request.params.id);
  if (rows.length === 0) throw notFound(request.params.id);
  const etag = tag(rows[0]);
  reply.header("ETag", etag);
  if (request.headers["if-none-match"] === etag) return reply.code(304).send();
  return shown(rows[0]);
});

app.post(
  "/posts",
  {
    schema: {
      body: {
        type: "object",
        required: ["title", "content"],
        properties: {
          title: { type: "string", minLength: 1, maxLength: 300, pattern: "\\S" },
          content: { type: "string", minLength: 1, maxLength: 65536, pattern: "\\S" },
          published: { type: "boolean", default: true },
        },
      },
      response: { 201: Post },
    },
  },
  async (request, reply) => {
    const { content, published } = request.body;
    const title = request.body.title.trim();
    const { rows } = await addPost(request.actor.id, title, content, published, title.toLowerCase());
    reply.code(201).header("Location", `/posts/${rows[0].id}`).header("ETag", tag(rows[0]));
    return shown(rows[0]);
  },
);

app.put(
  "/posts/:id/vote",
  {
    schema: {
      params: postId,
      body: { type: "object", required: ["dir"], properties: { dir: { type: "integer", enum: [1, -1] } } },
      response: { 200: Receipt },
    },
  },
  async (request) => {
    const { id } = request.params;
    const { dir } = request.body;
    let [row] = (await castVote(request.actor.id, id, dir)).rows;
    let message = row?.added ? "successfully added vote" : "successfully changed vote";
    if (!row) {
      [row] = (await tally(request.actor.id, id)).rows;
      if (!row) throw notFound(id);
      message = "vote unchanged";
    }
    const { upvotes, downvotes } = row;
    return { message, post_id: id, dir, votes: upvotes - downvotes, upvotes, downvotes };
  },
);

app.setErrorHandler((error, request, reply) => {
  const status = error.status ?? (error.validation ? 422 : (error.statusCode ?? 500));
  reply
    .code(status)
    .type("application/problem+json")
    .send({
      type: `/problems/${error.slug ?? (status === 422 ? "validation" : "internal")}`,
      title: error.title ?? "Problem",
      status,
      detail: status === 500 ? "something went wrong" : error.message,
      instance: request.id,
    });
  if (status === 500) console.error(error);
});

await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
process.on("SIGTERM", async () => {
  await app.close();
  await pool.end();
});
