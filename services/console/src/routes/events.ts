import type { App } from '../app.ts';
import type { RunFeed } from '../run-feed.ts';

/** A slow reader that has this much unread is let go; its browser connects again and gets a full first frame. */
const MAX_UNREAD_BYTES = 1024 * 1024;

export function eventRoutes(app: App, feed: RunFeed): void {
  app.get(
    '/v1/events',
    { schema: { tags: ['runs'], summary: 'Server-sent events: `runs` with an array of runs that changed, at most two a second' } },
    (request, reply) => {
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      });
      raw.write('retry: 2000\n\n');
      const leave = feed.listen((frame) => {
        if (raw.writableLength > MAX_UNREAD_BYTES) return raw.destroy();
        raw.write(frame === 'heartbeat' ? ': \n\n' : `event: runs\ndata: ${JSON.stringify(frame)}\n\n`);
      });
      request.raw.on('close', leave);
      raw.on('close', leave);
    },
  );
}
