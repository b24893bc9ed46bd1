import 'reflect-metadata';
import type { Platform, Service } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { PostgresPlanStore } from './adapters/postgres-plan-store.ts';
import { type PlannerConfig, plannerDefaults } from './config.ts';
import type { PlanStore } from './plan-store.ts';
import { Planner } from './planner.ts';

const PLATFORM: ServiceIdentifier<Platform> = Symbol('Platform');
const CONFIG: ServiceIdentifier<PlannerConfig> = Symbol('PlannerConfig');
const STORE: ServiceIdentifier<PlanStore> = Symbol('PlanStore');

export function wirePlanner(platform: Platform, config: Partial<PlannerConfig> = {}): Service {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(PLATFORM).toConstantValue(platform);
  container.bind(CONFIG).toConstantValue({ ...plannerDefaults, ...config });
  container.bind(STORE).toResolvedValue(({ database }: Platform) => new PostgresPlanStore(database), [PLATFORM]);
  container.bind(Planner).toResolvedValue((p: Platform, c: PlannerConfig, s: PlanStore) => new Planner(p, c, s), [PLATFORM, CONFIG, STORE]);
  return container.get(Planner);
}
