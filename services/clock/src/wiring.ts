import 'reflect-metadata';
import type { Service } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { Clock, type ClockPlatform } from './clock.ts';
import { type ClockConfig, clockDefaults } from './config.ts';

const PLATFORM: ServiceIdentifier<ClockPlatform> = Symbol('ClockPlatform');
const CONFIG: ServiceIdentifier<ClockConfig> = Symbol('ClockConfig');

export function wireClock(platform: ClockPlatform, config: Partial<ClockConfig> = {}): Service {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(PLATFORM).toConstantValue(platform);
  container.bind(CONFIG).toConstantValue({ ...clockDefaults, ...config });
  container.bind(Clock).toResolvedValue((p: ClockPlatform, c: ClockConfig) => new Clock(p, c), [PLATFORM, CONFIG]);
  return container.get(Clock);
}
