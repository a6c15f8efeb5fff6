# Coffer as an image: Node, the production packages, the source. Nothing is compiled: Node runs the TypeScript.
# It needs DATABASE_URL and a master key (docs/operations.md); the embedded PostgreSQL is left out.

FROM node:24-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Optional packages are the embedded PostgreSQL and a Node for older systems. No package here needs an install script.
RUN npm ci --ignore-scripts --omit=dev --omit=optional \
 && find node_modules/@prisma/client/runtime -name 'query_compiler_*' ! -name '*small_bg.postgresql*' -delete

FROM node:24-slim AS client
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --omit=optional
COPY prisma prisma
# Generating needs no engine; the variable names any file that exists, so that none is fetched.
RUN PRISMA_SCHEMA_ENGINE_BINARY=/app/package.json CHECKPOINT_DISABLE=1 DO_NOT_TRACK=1 \
    node node_modules/prisma/build/index.js generate --no-hints

FROM node:24-slim
# COFFER_HOME gets admin.token at the first start, and nothing else.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin coffer \
 && install --directory --mode=0700 --owner=coffer --group=coffer /var/lib/coffer
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY package.json LICENSE ./
COPY prisma prisma
COPY src src
COPY --from=client /app/src/store/generated src/store/generated
ENV NODE_ENV=production COFFER_HOME=/var/lib/coffer COFFER_HOST=0.0.0.0 COFFER_PORT=7420
# As scripts/run.mjs has it: less memory when idle. The cache holds compiled code, types already stripped; printing
# the routes' description loads most of it, and a read-only container starts from what that left. Node has a folder for
# each user there, so it is filled by the one who serves.
ENV NODE_OPTIONS=--max-semi-space-size=32 MALLOC_ARENA_MAX=1 NODE_COMPILE_CACHE=/app/node_modules/.cache/node
RUN install --directory --owner=coffer --group=coffer node_modules/.cache/node
USER 10001:10001
RUN node src/cli.ts openapi > /dev/null
EXPOSE 7420
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.COFFER_PORT + '/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# No npm and no shell between the container and the broker: signals reach it, and its exit code is the container's.
# SIGUSR1 would open a debugger. docker-compose.yml has the permission model on top.
ENTRYPOINT ["node", "--disable-sigusr1", "src/cli.ts"]
CMD ["serve"]
